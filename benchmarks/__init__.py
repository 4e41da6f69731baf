"""Campaigns that measure the product; not packaged. Each writes `results/*.json` with machine and commit."""
