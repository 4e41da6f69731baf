"""The room of the command `decide`."""
