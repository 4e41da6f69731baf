"""The room of the command `status`."""
