"""One room for each command of the command line."""
