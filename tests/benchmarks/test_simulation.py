"""A small simulation: every stage is gone through, and a shard asks no more of a store where there are many."""

import json
from pathlib import Path

import pytest

from benchmarks.scale.simulation import main


@pytest.mark.campaign
def test_the_whole_run_is_gone_through_and_what_a_shard_asks_for_does_not_grow_with_their_number(
    tmp_path: Path,
) -> None:
    out = tmp_path / "simulation.json"
    assert main(["--shards", "60", "--rows", "5", "--store-shards", "5", "15", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert set(found["stages"]) >= {"rank", "curate", "pack", "verify", "report", "forget_one"}
    for step in found["store"]["per_shard"].values():
        assert all(number <= 20 for number in step["each"].values()), step
