"""A package of filters: each module in here that defines `SCORES` is one, by its own name."""
