"""The room of the command `launch`."""
