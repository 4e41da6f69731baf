import json
from pathlib import Path

from curation.dataset.manifest import Manifest, ShardReport
from curation.run.runner import ShardFailure
from curation.run.text import tell, tell_outcome, values

MANIFEST = Manifest(
    stage="curate",
    recipe_name="demo",
    recipe_digest="ab" * 32,
    work_digest="cd" * 32,
    num_seen=16,
    num_kept=8,
    rejected={"decode": {"truncated": 2}, "colour": {"mean_channel_std_low": 4, "toning_residual_low": 2}},
    shards=(),
    failed={"00001": "00001.tar: torn"},
)


def test_a_stage_is_told_as_the_equation_that_its_counts_obey_and_by_its_folder() -> None:
    assert tell(MANIFEST, Path("run/curate")).splitlines() == [
        "curate: 16 seen = 8 kept + 2 by decode (truncated 2) + "
        "6 by colour (mean_channel_std_low 4, toning_residual_low 2)",
        "run/curate",
    ]


def test_the_values_name_the_recipe_and_every_shard_that_failed() -> None:
    assert json.loads(json.dumps(values(MANIFEST, Path("run/curate")))) == {
        "target": "run/curate",
        "stage": "curate",
        "recipe_name": "demo",
        "recipe_digest": "ab" * 32,
        "num_seen": 16,
        "num_kept": 8,
        "rejected": MANIFEST.rejected,
        "failed": {"00001": "00001.tar: torn"},
    }


def test_a_shard_is_told_by_its_counts_or_by_why_it_failed() -> None:
    done = ShardReport("00000", "work", 8, 4, {"decode": {"truncated": 4}}, {})
    assert tell_outcome("curate", done) == "curate 00000: 8 seen, 4 kept"
    failed = ShardFailure("00001", "00001.tar: torn", is_bug=False)
    assert tell_outcome("curate", failed) == "curate 00001: FAILED: 00001.tar: torn"
