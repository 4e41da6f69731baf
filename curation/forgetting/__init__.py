"""The parts of `forget`: what is meant, what must be written, and the one moment at which it counts."""
