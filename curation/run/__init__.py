"""What every stage does with its folder and its shards: claim, spread, write, find again, tell."""
