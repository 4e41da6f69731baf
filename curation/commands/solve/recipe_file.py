"""Writes a solution as a recipe's file: that of the recipe it began from with its comments, only the limits changed."""

from pathlib import Path
from typing import Any

from curation.commands.solve.limits import limits_of, set_limits
from curation.commands.solve.stage import Solution
from curation.errors import UsageError
from curation.recipe.overrides import as_toml
from curation.recipe.recipe import load_recipe, recipe_text


def write_recipe(path: Path, solution: Solution, named: str | None) -> None:
    """Write the solved recipe, which `load_recipe` takes.

    `named` is the recipe that it began from, where that has a file; without, all defaults are filled in.

    Raises:
        UsageError: there is a file of this name.
    """
    import tomlkit

    recipe = solution.recipe
    document: Any = tomlkit.parse(recipe_text(named)) if named else tomlkit.item(as_toml(recipe.resolved))
    document["name"], document["description"] = recipe.name, recipe.file.description
    set_limits(document, limits_of(recipe))
    document.pop("limits", None)  # a lock that is named would take the place of what was solved
    if (record := recipe.resolved.get("limits")) is not None:
        document["limits"] = record
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(tomlkit.dumps(document))
    except FileExistsError:
        raise UsageError(f"{path}: there is a file of this name; give another") from None
    written = load_recipe(path)
    if written.digest != recipe.digest:
        raise AssertionError(f"{path}: reads as another recipe than was solved")
