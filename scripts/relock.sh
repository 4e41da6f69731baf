#!/usr/bin/env bash
# Writes every lock file anew from its source: hashed, for Linux x86_64 and CPython 3.11, wheels of the public index only.
# Pins that still fit stay as they are; pass --upgrade to move them.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
"$tools/bin/pip" install --quiet "uv==0.13.9"

lock() {
  "$tools/bin/uv" pip compile --quiet --generate-hashes --only-binary :all: --no-header --no-annotate --no-config \
    --python-version 3.11 --python-platform x86_64-manylinux_2_28 "$@"
}

lock pyproject.toml --extra dev --extra cluster --extra openvino --extra s3 --extra train --output-file requirements.lock "$@"
# Carried by wheels that would drag in a second cv2: locked alone, installed with --no-deps.
lock demo/requirements.in --no-deps --output-file demo/requirements.lock "$@"
lock backends/yolov5-face/requirements.in --no-deps --output-file backends/yolov5-face/requirements.lock "$@"
