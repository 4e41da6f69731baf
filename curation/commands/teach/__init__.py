"""`teach`: from labels and a run's pictures to a head, with its card."""
