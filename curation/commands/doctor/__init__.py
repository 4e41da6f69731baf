"""The room of the command `doctor`."""
