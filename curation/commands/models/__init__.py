"""The room of the command `models`."""
