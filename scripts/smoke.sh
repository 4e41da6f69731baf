#!/usr/bin/env bash
# Tries the product on another Python in a new environment that is gone afterwards: scripts/smoke.sh [PYTHON]
# Needs about 8 GB of disk in the folder for temporary files while it runs.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
SECONDS=0
scripts/setup.sh "$folder/venv" "${1:-python3}"
echo "smoke: environment built in $SECONDS s"
# Only what the packages carry: neither the weights nor the exports of whoever runs this.
env -u FACECAPTIONHQ_MODELS XDG_CACHE_HOME="$folder/cache" "$folder/venv/bin/python" scripts/smoke.py "$folder"
echo "smoke: done in $SECONDS s"
