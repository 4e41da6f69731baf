#!/usr/bin/env bash
# Writes every lock file anew from its source, with the uv that the lock itself pins: hashed, wheels of the public index
# only, one file for each Python and platform, named by the ABI of the interpreter that it is for.
# Pins that still fit stay as they are; pass --upgrade to move them.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
if ! [ -x "$uv" ]; then
  echo "$uv is missing: run make setup first, or name another in UV" >&2
  exit 2
fi

lock() {
  "$uv" pip compile --quiet --generate-hashes --only-binary :all: --no-header --no-annotate --no-config "$@"
}

everything=(pyproject.toml --extra cluster --extra dev --extra review --extra s3 --extra train)
for minor in 11 12 13 14; do
  for machine in x86_64 aarch64; do
    file=requirements/cpython-3$minor-$machine-linux-gnu.lock
    extras=()
    # openvino has no wheel for aarch64 below glibc 2.35.
    [ "$machine" = aarch64 ] || extras=(--extra openvino)
    # A new file begins with the pins of the oldest.
    [ -f "$file" ] || cp requirements/cpython-311-x86_64-linux-gnu.lock "$file"
    # img2dataset asks for the backport of a module that every Python here has, and imports it nowhere.
    lock "${everything[@]}" "${extras[@]}" --no-emit-package dataclasses --python-version "3.$minor" \
      --python-platform "$machine-manylinux_2_28" --output-file "$file" "$@"
  done
done

# Carried by wheels that would drag in a second cv2: locked alone, installed with --no-deps, on every Python and platform.
for folder in demo backends/yolov5-face; do
  lock $folder/requirements.in --no-deps --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --output-file $folder/requirements.lock "$@"
done
