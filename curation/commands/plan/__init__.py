"""The room of the command `plan`."""
