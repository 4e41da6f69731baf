"""Rows are found in however many ledgers a run has, a few of them scanned at a time."""

from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.run import lookup
from curation.run.folders import stages_of
from curation.run.lookup import find_images
from curation.run.runner import Spread
from tests.curation.shards import colourful, recipe_from, sample_members, write_shard

URL = "http://example.org/same.jpg"


@pytest.mark.parametrize("num_scanned", [1, 2, 64])
def test_a_row_is_found_in_whichever_scan_its_ledger_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_scanned: int
) -> None:
    for shard in range(3):
        samples = [sample_members(f"{shard}{i}", colourful(10 * shard + i), url=URL if i else None) for i in range(2)]
        write_shard(tmp_path / "in", f"{shard:05d}", samples)
    curate(tmp_path / "in", tmp_path / "run" / "curate", recipe_from(tmp_path), Spread(num_workers=0))
    monkeypatch.setattr(lookup, "NUM_SCANNED", num_scanned)
    (rows,) = find_images(stages_of(tmp_path / "run"), URL)
    assert [entry.row["key"] for entry in rows] == ["01", "11", "21"]
