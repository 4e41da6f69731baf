"""The room of the command `solve`."""
