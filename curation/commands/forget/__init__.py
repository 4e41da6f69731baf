"""The room of the command `forget`."""
