"""The room of the command `rank`."""
