"""`calibrate`: from labels and a run's ledgers to limits with evidence."""
