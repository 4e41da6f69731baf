"""Pages of this machine: who may ask, how it is answered, and what all pages share."""
