"""The room of the command `fetch`."""
