#!/usr/bin/env bash
# Tests the optional GPL-3.0 backend in an environment of its own, so that the core's never holds the package.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=.venv-yolov5-face
pip="$venv/bin/pip --disable-pip-version-check --quiet"
test -x $venv/bin/python || "${PYTHON:-python3}" -m venv $venv
$pip install --only-binary :all: --require-hashes -r requirements.lock
$pip install --only-binary :all: --require-hashes --no-deps -r backends/yolov5-face/requirements.lock
$pip install --no-deps --no-build-isolation --editable .
exec $venv/bin/pytest tests/filters/test_yolov5_face_torch.py "$@"
