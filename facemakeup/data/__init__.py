"""From packed tars to batches, in an order that is a pure function."""
