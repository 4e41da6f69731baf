"""A stage's ledger as one table for other programs."""
