"""The room of the command `why`."""
