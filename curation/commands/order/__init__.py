"""The room of the command `order`."""
