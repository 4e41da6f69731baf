"""From pictures to evidence and the ledger's columns."""
