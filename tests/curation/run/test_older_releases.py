"""What 0.2.0 curated and packed is read by every command today: `run-0.2.0.tar.gz` is its work, of made-up pictures."""

from pathlib import Path

import pytest

from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.gc.collect import collect
from curation.commands.pack.stage import pack
from curation.commands.verify.check import verify
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_manifest
from curation.dataset.tar import read_samples
from curation.errors import UsageError
from curation.recipe.recipe import recipe_of
from curation.run.runner import Spread
from facemakeup.data.index import build_index
from facemakeup.data.members import read_members
from facemakeup.data.shards import ShardStore, find_shards
from tests.curation.older_run import unpack_older_run

ALONE = Spread(num_workers=0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The run as 0.2.0 left it."""
    return unpack_older_run(tmp_path)


def samples(pack: Path) -> dict[str, bytes]:
    return {
        s.key: s.image_bytes for report in read_manifest(pack).shards for s in read_samples(report.file(pack, ".tar"))
    }


def test_it_is_verified_read_for_training_and_forgotten_in(run: Path, tmp_path: Path) -> None:
    assert {report.shard for report in read_manifest(run / "pack").shards} == {"jpg-00000", "jpg-00001", "png-00000"}
    assert verify(run, ALONE).ok
    before = samples(run / "pack")
    store = ShardStore(tmp_path / "cache", 1 << 30)
    index = build_index(find_shards([f"{run}/pack/*.tar"]), store, tmp_path / "scans")
    assert not any((tmp_path / "scans").iterdir()) and len(index) == len(before) == 8
    for row in range(len(index)):
        members = read_members(store, *index.where(row), index.key(row))
        assert before[index.key(row)] in members.values()
    index_rows = read_ledger(run / "pack" / "index.parquet").to_pylist()
    gone = next(row["uid"] for row in index_rows if row["url"].endswith("/00001.jpg"))
    forget(run, read_requests([gone], "a list"))
    assert verify(run, ALONE).ok
    assert samples(run / "pack") == {uid: picture for uid, picture in before.items() if uid != gone}


def test_a_tar_that_a_dead_run_of_it_left_is_known_for_its_own(run: Path) -> None:
    (run / "pack" / "jpg-00009.tar").write_bytes((run / "pack" / "jpg-00000.tar").read_bytes())
    assert [removal.file for removal in collect(run).removed] == ["pack/jpg-00009.tar"]


def test_what_it_curated_is_packed_into_a_new_folder_and_never_over_the_old_pack(run: Path) -> None:
    recipe = recipe_of(read_manifest(run / "curate").recipe, "its recipe")
    with pytest.raises(UsageError, match="holds the output of other work"):
        pack(run / "curate", run / "pack", recipe, ALONE)
    before = samples(run / "pack")
    pack(run / "curate", run / "again", recipe, ALONE)
    assert samples(run / "again") == before
