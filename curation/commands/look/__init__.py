"""The room of the command `look`."""
