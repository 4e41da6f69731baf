"""Draws the pictures that are scored: five methods behind one interface, each from the files that its makers publish.

`base` is the interface, `settings` what a configuration says, `catalogue` what is published where, `checkpoints` how
it is read. A method is told in `docs/evaluation.md`, with what of it could be held against the published files.
"""
