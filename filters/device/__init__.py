"""One process per device that runs the networks of all workers of a machine: its words, its clients, the server."""
