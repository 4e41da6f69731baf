"""The room of the command `curate`."""
