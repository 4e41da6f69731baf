"""The room of the command `gc`."""
