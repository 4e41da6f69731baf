"""Filters that other distributions bring: a broken one is named, and stops nobody who does not ask for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from filters.plugins import FILTERS
from tests.distributions import bring
from tests.places import ROOT


def offer(folder: Path, *lines: str) -> Path:
    """Bring a distribution that offers filters."""
    bring(folder, "broken", "\n".join([f"[{FILTERS}]", *lines]) + "\n")
    return folder


def names_in(folder: Path) -> tuple[list[str], str]:
    """Return the filters that a process finds which sees this folder too, and what it says on stderr."""
    code = "from curation.recipe.filter_plan import filter_names; print(*filter_names())"
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {name: value for name, value in os.environ.items() if name != "FACECAPTIONHQ_FILTERS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize("package", ["not_there", "not_there.inner", "single_module"])
def test_a_package_that_is_offered_but_not_there_is_named_and_the_others_are_found(
    tmp_path: Path, package: str
) -> None:
    (tmp_path / "single_module.py").write_text("SCORES = ()\n")
    (tmp_path / "good_filters").mkdir()
    (tmp_path / "good_filters" / "plainness.py").write_text("SCORES = ()\n")
    names, said = names_in(offer(tmp_path, f"broken = {package}", "good = good_filters"))
    assert {"colour", "plainness"} <= set(names)
    assert f"entry point broken of facecaptionhq.filters: no package '{package}' is here" in said


def test_a_package_cannot_take_the_name_of_a_filter_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "colour.py").write_text("raise RuntimeError('not the one')\n")
    names, said = names_in(offer(tmp_path, "others = others"))
    assert names.count("colour") == 1 and not said
