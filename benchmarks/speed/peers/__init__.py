"""Other curators beside ours, on the part of the job that they cover, each in an environment of its own.

Environments lie in the machine's temporary folder and are built from `locks/` at the first run; nothing of a peer is
ever imported here. What stands in `inside/` runs in there.
"""
