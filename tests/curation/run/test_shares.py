"""Shares of a curation, each in a folder of its own, make what one process makes."""

import shutil
from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.dataset.tombstones import tombstones_of
from curation.errors import UsageError
from curation.recipe.recipe import Recipe
from curation.run.derived import derived_of, register
from curation.run.runner import Spread
from curation.run.shares import Share
from tests.curation.shards import (
    RECIPE,
    bytes_of,
    colourful,
    mixed_source,
    recipe_from,
    sample_members,
    write_shard,
)

ALONE = Spread(num_workers=0)
URL = "http://example.org/00001.jpg"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    """A folder with `src` and a share of all of it, `share/curate`; and the recipe."""
    folder = tmp_path_factory.mktemp("base")
    recipe = recipe_from(folder / "r", RECIPE.replace("[[filters]]", "[curate]\nisolate = false\n[[filters]]"))
    curate(mixed_source(folder / "src", 1), folder / "share" / "curate", recipe, ALONE, share=Share(1, 1))
    return folder, recipe


def copies(base: Path, folder: Path, *names: str) -> tuple[Path, ...]:
    """Copy the source, and the share under several names."""
    shutil.copytree(base / "src", folder / "src")
    for name in names:
        shutil.copytree(base / "share", folder / name)
    return (folder / "src", *(folder / name / "curate" for name in names))


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


@pytest.mark.parametrize(
    "named", ["run/curate", "link", "run", "run/curate/in", "src", "src/in", ".", "run/../run/curate"]
)
def test_a_share_that_is_or_holds_or_lies_in_what_stays_is_refused_before_anything_is_touched(
    base: tuple[Path, Recipe], tmp_path: Path, named: str
) -> None:
    source, target = copies(base[0], tmp_path, "run")
    (tmp_path / "link").symlink_to(target)
    before = bytes_of(target)
    with pytest.raises(UsageError, match="which stays"):
        curate(source, target, base[1], ALONE, taken=[tmp_path / named])
    assert bytes_of(target) == before and len(list(source.iterdir())) == 1


def test_a_share_that_holds_the_file_that_a_source_links_to_is_refused(
    base: tuple[Path, Recipe], tmp_path: Path
) -> None:
    source, share = copies(base[0], tmp_path, "one")
    (source / "00000.tar").rename(share / "source.tar")
    (source / "00000.tar").symlink_to(share / "source.tar")
    with pytest.raises(UsageError, match="which stays"):
        curate(source, tmp_path / "run" / "curate", base[1], ALONE, taken=[share])


def test_what_a_share_forgot_stays_forgotten_and_what_was_forgotten_here_does_not_return(
    base: tuple[Path, Recipe], tmp_path: Path
) -> None:
    source, share, other, third = copies(base[0], tmp_path, "one", "run", "third")
    asked = read_requests([URL], "mail")
    forget(tmp_path / "one", asked)
    with pytest.raises(UsageError, match=r"run/curate.*still tells of 1 pictures"):  # what is there already tells of it
        curate(source, other, base[1], ALONE, taken=[share])
    curate(source, tmp_path / "new" / "curate", base[1], ALONE, taken=[share])
    assert tombstones_of(tmp_path / "new").names(URL) and not share.exists()
    assert not any(b"00001.jpg" in path.read_bytes() for path in (tmp_path / "new/curate").glob("*.tar"))
    shutil.rmtree(tmp_path / "new/curate")
    with pytest.raises(UsageError, match=r"third/curate.*forget them there, too"):  # the run knows, the share does not
        curate(source, tmp_path / "new" / "curate", base[1], ALONE, taken=[third])
    assert third.exists() and not bytes_of(tmp_path / "new/curate")
    shutil.copytree(tmp_path / "new/forgotten", tmp_path / "forgotten")
    with pytest.raises(UsageError, match=r"third/curate.*forget them there, too"):  # the source's run knows
        shutil.move(source, tmp_path / "fetch")
        curate(tmp_path / "fetch", tmp_path / "last" / "curate", base[1], ALONE, taken=[third])


@pytest.mark.parametrize("what", ["card", "review", "pack", "notes.txt"])
def test_a_share_that_anything_was_made_from_or_put_into_is_refused_and_stays(
    base: tuple[Path, Recipe], tmp_path: Path, what: str
) -> None:
    source, share = copies(base[0], tmp_path, "one")
    if what == "card":
        register(share, tmp_path / "elsewhere", "pack", "state")
    elif what == "review":
        (tmp_path / "one/review").mkdir()
        (tmp_path / "one/review/labels.jsonl").write_text("")
    elif what == "pack":
        (tmp_path / "one/pack").mkdir()
    else:
        (share / what).write_text("")
    with pytest.raises(UsageError, match="take it elsewhere" if what == "notes.txt" else "was made from it"):
        curate(source, tmp_path / "run" / "curate", base[1], ALONE, taken=[share])
    assert bytes_of(share) == bytes_of(base[0] / "share/curate")


def test_only_a_share_that_was_taken_over_may_be_gone_or_half_removed(
    base: tuple[Path, Recipe], tmp_path: Path
) -> None:
    source, share, again = copies(base[0], tmp_path, "one", "again")
    target = tmp_path / "run" / "curate"
    curate(source, target, base[1], ALONE, taken=[share])
    whole = (target / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match=r"--join .*mistyped: no such folder"):
        curate(source, target, base[1], ALONE, taken=[tmp_path / "mistyped"])
    for left in ("00000.tar", "work.json", "manifest.json"):  # a kill while the share was removed left this alone
        share.mkdir()
        shutil.copy(again / left, share)
        curate(source, target, base[1], ALONE, taken=[share])
        assert not share.exists() and (target / "manifest.json").read_bytes() == whole
    share.mkdir()
    (share / "00001.tar").write_bytes(b"")  # not what was taken over
    with pytest.raises(UsageError, match="no manifest"):
        curate(source, target, base[1], ALONE, taken=[share])
    assert (share / "00001.tar").exists()


@pytest.mark.parametrize("name", ["00000", "00007"])
def test_a_share_of_another_source_is_refused_and_poisons_nothing(
    base: tuple[Path, Recipe], tmp_path: Path, name: str
) -> None:
    (source,) = copies(base[0], tmp_path)
    other, target = tmp_path / "other", tmp_path / "run" / "curate"
    write_shard(other, name, [sample_members("x1", colourful(1))])
    curate(other, tmp_path / "share", base[1], ALONE)
    with pytest.raises(UsageError, match=f"holds shard {name}"):
        curate(source, target, base[1], ALONE, taken=[tmp_path / "share"])
    assert not bytes_of(target)
    curate(source, target, base[1], ALONE)
    assert bytes_of(target) == bytes_of(base[0] / "share/curate")
