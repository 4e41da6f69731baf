"""Scores pictures of people against their references: metrics, judges, protocols, and the table that they make.

A metric is a pure function over what a judge measured; a judge is a network with its hash. Every score says on how many
pictures it stands, what failed and why, and how sure it is.
"""
