"""The room of the command `importing`."""
