import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.curation.shards import RECIPE, colourful, grey, sample_members, write_shard
from tests.places import ROOT

SHIM = ROOT / "tests" / "faults" / "shim.c"
COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C compiler to build the shim that fails system calls")
@pytest.mark.timeout(600)
def test_a_run_that_fails_at_any_write_loses_and_doubles_nothing_and_ends_like_an_uninterrupted_one(
    tmp_path: Path,
) -> None:
    samples = [sample_members("a", colourful(1)), sample_members("b", grey(2)), sample_members("c", colourful(3)[:-60])]
    source = write_shard(tmp_path / "in", "00000", samples).parent
    recipe, library = tmp_path / "recipe.toml", tmp_path / "shim.so"
    recipe.write_text(RECIPE.replace("[[filters]]", "[curate]\nisolate = false\n[[filters]]"))
    build = [str(COMPILER), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SHIM), "-ldl"]
    subprocess.run(build, check=True)
    command = [sys.executable, "-m", "tests.faults.sweep", str(source), str(recipe), str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--shim", str(library), "--stride", "7"],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(done.stdout)
    assert result["faults"] == []
    assert result["num_calls"] > 100 and all(count > 14 for count in result["struck"].values())
    assert "no room to write it" in done.stderr and "run the same command again" in done.stderr
