"""Where bytes lie and how they appear: paths, atomic publishing, leases, scratch databases."""
