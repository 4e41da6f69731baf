"""Both of Slurm's variants on a real Slurm, where there is one: `scripts/slurm.sh` brings one up in a container."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.commands.launch.job import FleetJob
from curation.commands.launch.stage import files_of, submit, write
from curation.recipe.recipe import load_recipe
from curation.run.runner import Spread
from tests.curation.shards import RECIPE, bytes_of, mixed_source
from tests.places import ROOT

PATIENCE_S = 600


def why_not() -> str | None:
    """Return why no job can be submitted here; None where one can."""
    if shutil.which("sbatch") is None or shutil.which("scontrol") is None:
        return "no Slurm is installed here: sbatch is not found"
    answer = subprocess.run(["timeout", "20", "scontrol", "ping"], capture_output=True, text=True, check=False)
    return None if answer.returncode == 0 and "is UP" in answer.stdout else "Slurm's controller does not answer"


def queued() -> str:
    return subprocess.run(["squeue", "--me", "--noheader"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def commands_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job inherits the environment that submits it, as on a cluster; what runs is this checkout."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.slow
@pytest.mark.usefixtures("commands_found")
def test_a_real_slurm_makes_in_both_variants_the_bytes_of_one_process(tmp_path: Path) -> None:
    source = mixed_source(tmp_path / "tars")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    curate(source, tmp_path / "one", load_recipe(tmp_path / "recipe.toml"), Spread(num_workers=0))
    for launcher in ("slurm-array", "slurm"):
        target, scripts = tmp_path / launcher, tmp_path / f"{launcher}.launch"
        job = FleetJob(str(source), str(target), str(tmp_path / "recipe.toml"), 2, 2, 1)
        write(files_of(launcher, job), scripts)
        submit(launcher, scripts)
    end = time.monotonic() + PATIENCE_S
    while queued() and time.monotonic() < end:
        time.sleep(2)
    for launcher in ("slurm-array", "slurm"):
        said = {path.name: path.read_text() for path in (tmp_path / f"{launcher}.launch").glob("*.out")}
        assert (tmp_path / launcher / "manifest.json").is_file(), (said, queued())
        assert bytes_of(tmp_path / launcher) == bytes_of(tmp_path / "one")
        manifests = [(tmp_path / name / "manifest.json").read_bytes() for name in (launcher, "one")]
        assert manifests[0] == manifests[1]
