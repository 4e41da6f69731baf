"""The room of the command `pack`."""
