"""Filters: pictures in, evidence out; they know nothing of the pipeline above them, nor of one another."""
