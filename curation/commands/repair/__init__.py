"""Tars that cannot be read as they are, written anew."""
