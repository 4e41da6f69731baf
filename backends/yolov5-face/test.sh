#!/usr/bin/env bash
# Tests the optional GPL-3.0 backend in an environment of its own, so that the core's never holds the package.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=.venv-yolov5-face
scripts/setup.sh $venv "${PYTHON:-}"
$venv/bin/pip --disable-pip-version-check --quiet install --only-binary :all: --require-hashes --no-deps \
  -r backends/yolov5-face/requirements.lock
exec $venv/bin/pytest tests/filters/test_yolov5_face_torch.py "$@"
