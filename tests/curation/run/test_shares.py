"""Shares of a curation, each in a folder of its own, make what one process makes."""

import shutil
from pathlib import Path

import pytest

from curation.commands.curate import curate
from curation.errors import UsageError
from curation.run.derived import derived_of
from curation.run.runner import Spread
from curation.run.shares import Share
from tests.curation.shards import RECIPE, bytes_of, mixed_source, recipe_from

ALONE = Spread(num_workers=0)


def test_shares_that_are_joined_are_byte_for_byte_what_one_process_makes(tmp_path: Path) -> None:
    source = mixed_source(tmp_path / "in", 4)
    text = RECIPE.replace("[[filters]]", "[curate]\nisolate = false\n[[filters]]")
    recipe, other = recipe_from(tmp_path / "r", text), recipe_from(tmp_path / "o", text.replace("2.0", "3.0"))
    curate(source, tmp_path / "one", recipe, ALONE)
    folders = [tmp_path / f"share-{number}" for number in (1, 2, 3, 4, 5)]
    seen = [curate(source, folder, recipe, ALONE, share=Share(n, 5)) for n, folder in enumerate(folders, 1)]
    assert [[shard.shard for shard in manifest.shards] for manifest in seen] == [
        ["00000"],
        ["00001"],
        ["00002"],
        ["00003"],
        [],
    ]
    with pytest.raises(UsageError, match="holds other work"):
        curate(source, tmp_path / "wrong", other, ALONE, taken=folders)
    shutil.copytree(folders[0], tmp_path / "kept")
    for taken in (folders[:2], folders):  # the first leaves two shards to do; the second time, two shares are gone
        curate(source, tmp_path / "all", recipe, ALONE, taken=taken)
        assert bytes_of(tmp_path / "all") == bytes_of(tmp_path / "one")
        assert (tmp_path / "all/manifest.json").read_bytes() == (tmp_path / "one/manifest.json").read_bytes()
    assert not any(folder.exists() for folder in folders)
    assert derived_of(source) == ()
    with pytest.raises(UsageError, match="no such folder"):
        curate(source, tmp_path / "new", recipe, ALONE, taken=folders)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "1/2/3", "-1/2"])
def test_a_share_is_i_of_n_from_one_on(text: str) -> None:
    assert Share.parse("3/8") == Share(3, 8) and Share(3, 8).of(range(20)) == [2, 10, 18]
    with pytest.raises(UsageError, match="say I/N with I from 1 to N"):
        Share.parse(text)
