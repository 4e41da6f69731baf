# `make test` runs the suite, `make test-slow` what takes longer, `make smoke` other Pythons: CI runs all three.
# `make demo` runs the whole main job on real photos.
# PYTHON names the interpreter of a new environment (`make setup PYTHON=python3.13`), VENV its folder.
PYTHON ?=
VENV ?= .venv
BIN := $(VENV)/bin
# Where bytecode is not kept, every process that a test starts compiles all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-slow test-gpl lint types smoke lock clean

setup:
	scripts/setup.sh $(VENV) $(PYTHON)

demo: setup
	$(BIN)/python -m demo.run

test: lint types
	$(BIN)/pytest -n 2 --dist loadscope

test-slow: setup
	$(BIN)/pytest -n 2 --dist loadscope -m "slow and not campaign"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

smoke:
	scripts/smoke.sh $(PYTHON)

test-gpl:
	./backends/yolov5-face/test.sh

lock: setup
	UV=$(BIN)/uv scripts/relock.sh

clean:
	rm -rf build dist
