import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.places import ROOT


def setup(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `scripts/setup.sh`."""
    command = [str(word) for word in (ROOT / "scripts/setup.sh", *arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def interpreter(path: Path, abi: str) -> Path:
    """Write a program that answers, as an interpreter would, which ABI it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {abi}\n")
    path.chmod(0o755)
    return path


def test_a_python_that_no_lock_is_for_is_refused_with_the_choices_before_anything_is_written(tmp_path: Path) -> None:
    python = interpreter(tmp_path / "pypy", "pypy311-pp73-x86_64-linux-gnu")
    result = setup(tmp_path / "venv", python)
    assert result.returncode == 2
    assert f"no lock is for {python} (pypy311-pp73-x86_64-linux-gnu)" in result.stderr
    assert "cpython-311-x86_64-linux-gnu" in result.stderr and "make setup PYTHON=python3.11" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_python_that_does_not_run_is_named(tmp_path: Path) -> None:
    result = setup(tmp_path / "venv", tmp_path / "python3.9")
    assert result.returncode == 2
    assert f"{tmp_path}/python3.9 does not run" in result.stderr


def test_an_environment_of_another_python_is_never_filled(tmp_path: Path) -> None:
    other = "cpython-39-x86_64-linux-gnu"
    interpreter(tmp_path / "venv/bin/python", other)
    result = setup(tmp_path / "venv", sys.executable)
    assert result.returncode == 2
    ours = sysconfig.get_config_var("SOABI")
    assert f"{tmp_path}/venv holds {other}, but {sys.executable} is {ours}" in result.stderr
    assert [path.name for path in (tmp_path / "venv").iterdir()] == ["bin"]


def test_without_a_word_on_python_an_environment_keeps_its_own(tmp_path: Path) -> None:
    own = interpreter(tmp_path / "venv/bin/python", "cpython-39-x86_64-linux-gnu")
    assert f"no lock is for {own} (cpython-39-x86_64-linux-gnu)" in setup(tmp_path / "venv").stderr
