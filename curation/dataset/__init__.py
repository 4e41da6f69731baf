"""What flows and what stays: samples, tars, captions, ledgers, manifests, tombstones."""
