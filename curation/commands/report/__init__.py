"""The room of the command `report`."""
