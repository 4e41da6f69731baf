"""The data set card: what a pack holds and how it came about, every number of it asked of the ledgers."""
