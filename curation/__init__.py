"""The pipeline: its stages (rank, fetch, curate, pack, report) and the nouns they share."""
