"""The one table of stages: the order in which samples flow, and whose files are whose."""

from itertools import pairwise

import pytest

from curation.dataset.stages import CAPTION, CURATE, FETCH, PACK, RANK, STAGES

FORMATS = ("jpg", "png")


def test_each_stage_reads_what_the_one_before_it_wrote() -> None:
    first, *_ = STAGES.values()
    assert first.before is None
    straight = [stage for stage in STAGES.values() if not stage.is_aside]
    for before, stage in pairwise(straight):
        assert stage.before == before.name
    order = list(STAGES)
    assert all(order.index(str(stage.before)) < order.index(stage.name) for stage in STAGES.values() if stage.before)
    assert [name for name, stage in STAGES.items() if stage.name != name] == []


@pytest.mark.parametrize(
    ("stage", "own", "foreign"),
    [
        (
            RANK,
            ["00000.parquet", "ledger.parquet", "123456.parquet"],
            ["00000.tar", "index.parquet", "x.parquet", "00000.0123abcd.parquet"],
        ),
        (FETCH, ["00012.tar", "00012.parquet", "findings.parquet", "00012.0123abcd.tar"], ["0.tar", "ledger.parquet"]),
        (CURATE, ["00012.tar", "00012.0123abcd.parquet"], ["findings.parquet", "jpg-00000.tar", "00012.tar.bak"]),
        (CAPTION, ["00012.parquet"], ["00012.tar", "ledger.parquet"]),
        (
            PACK,
            [
                "00000.tar",
                "00001.parquet",
                "jpg-00000.tar",
                "png-00001.parquet",
                "index.parquet",
                "ledger.parquet",
                "README.md",
            ],
            ["0.tar", "jpg-0.tar", "backup-00001.tar"],
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_stage_knows_the_names_that_it_gives(stage: object, own: list[str], foreign: list[str]) -> None:
    may_write = stage.may_write  # type: ignore[attr-defined]
    assert [name for name in own if not may_write(name, FORMATS)] == []
    assert [name for name in foreign if may_write(name, FORMATS)] == []
