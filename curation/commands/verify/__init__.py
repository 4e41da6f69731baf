"""The room of the command `verify`."""
