"""Models and their runtimes behind small interfaces; filters and the trainer both build on them."""
