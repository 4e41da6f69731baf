"""The room of the command `review`."""
