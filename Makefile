# One command checks everything that CI checks: `make test`. `make demo` runs the whole main job on real photos.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: setup demo test test-gpl lint types lock clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock demo/requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --only-binary :all: --require-hashes -r requirements.lock
	$(PIP) install --only-binary :all: --require-hashes --no-deps -r demo/requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/python -m demo.run

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

test-gpl:
	./backends/yolov5-face/test.sh

lock:
	scripts/relock.sh

clean:
	rm -rf build dist
