"""What a run will do: the recipe, its tables, and the pure judge that decides by it."""
