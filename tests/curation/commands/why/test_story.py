import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.commands.pack.stage import pack
from curation.commands.why.story import Story, why
from curation.commands.why.text import tell
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_manifest
from curation.dataset.sample import uid_of_url
from curation.dataset.tar import members_of
from curation.errors import UsageError
from curation.run.folders import stages_of
from curation.run.lookup import find_images
from curation.storage.publish import sha256_of
from tests.curation.shards import colourful, grey, recipe_from, sample_members, write_shard
from tests.curation.whole_run import ALONE, caption_of, url_of, write_run

TWO_FILTERS = """
schema_version = 1
name = "two"
[curate]
shadow_fraction = 0.0
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
[[filters]]
name = "faces"
measure = { detector = "centerface", weights = "centerface", side = 640 }
keep.num_faces = { min = 1 }
"""
KEPT, GREY, GONE, BELOW_CUT = 0, 1, 4, 25


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    write_run(run)
    return run


def story_of(run: Path, identity: str) -> Story:
    (story,) = why(run, identity)
    return story


def test_a_kept_image_is_followed_through_every_stage_to_the_byte_where_it_lies(run: Path) -> None:
    story = story_of(run, url_of(KEPT))
    assert [(part.stage, part.kept) for part in story.stages] == [
        ("rank", True), ("fetch", True), ("curate", True), ("pack", True),
    ]  # fmt: skip
    for part in story.stages[1:]:
        assert part.file is not None and part.offset is not None
        members = {member.offset: member.name for member in members_of(run / part.file)}
        assert members[part.offset].endswith(".jpg")
        assert part.recipe_digest == read_manifest(run / part.stage).recipe_digest
    (criterion,) = story.criteria
    assert (criterion.filter, criterion.score, criterion.min, criterion.result) == (
        "colour", "mean_channel_std", 2.0, "holds",
    )  # fmt: skip
    assert criterion.value == story.scores["colour"]["mean_channel_std"]
    assert story.caption_binding["binding"] == "no_face"
    assert caption_of(KEPT) in {caption["text"] for caption in story.captions}
    assert f"lies in {story.stages[-1].file} at byte" in tell(story)


@pytest.mark.parametrize(
    ("number", "ending"),
    [
        (GREY, "rejected in curate by colour: mean_channel_std_low"),
        (GONE, "rejected in fetch by fetch: http_404"),
        (BELOW_CUT, "rejected in rank by rank: below_cut"),
    ],
)
def test_a_rejected_image_is_told_who_rejected_it_and_why(run: Path, number: int, ending: str) -> None:
    story = story_of(run, url_of(number))
    told, _, meaning = tell(story).splitlines()[1].strip().partition(" (")
    assert told == ending and len(meaning.split()) >= 3
    assert [criterion.decided for criterion in story.criteria] == ([True] if number == GREY else [])


def test_uid_url_key_and_sha256_name_the_same_image(run: Path) -> None:
    row = next(row for row in read_ledger(run / "pack" / "index.parquet").to_pylist() if row["url"] == url_of(8))
    shouted = url_of(8).replace("http://host1.example.org", "HTTP://HOST1.example.org:80") + "#part"
    key = next(r["key"] for r in read_ledger(run / "rank" / "ledger.parquet").to_pylist() if r["uid"] == row["uid"])
    names = (row["uid"], url_of(8), shouted, key, row["sha256"], row["source_sha256"].upper())
    stories = [story_of(run, name) for name in names]
    assert all(story == stories[0] for story in stories)


def test_an_image_that_no_stage_saw_is_said_to_be_unknown(run: Path) -> None:
    for identity in ("0" * 32, "0" * 64, "http://example.org/never.jpg", "nokey"):
        with pytest.raises(UsageError, match="knows it now"):
            why(run, identity)
    with pytest.raises(UsageError, match=r"not an http\(s\) URL"):
        why(run, "ftp://example.org/a.jpg")


def test_what_was_not_measured_is_said_with_the_reason(tmp_path: Path) -> None:
    run = tmp_path / "run"
    torn = sample_members("torn", colourful(3)[:-60])
    samples = [sample_members("noface", colourful(1)), sample_members("grey", grey(2)), torn]
    write_shard(tmp_path / "in", "00000", samples)
    recipe = recipe_from(tmp_path, TWO_FILTERS)
    curate(tmp_path / "in", run / "curate", recipe, ALONE)
    pack(run / "curate", run / "pack", recipe, ALONE)
    no_face, cut_short, unread = (story_of(run, key) for key in ("noface", "grey", "torn"))
    assert [(c.score, c.decided) for c in no_face.criteria] == [("mean_channel_std", False), ("num_faces", True)]
    assert no_face.unmeasured == {} and list(no_face.weights) == ["centerface"]
    assert cut_short.unmeasured == {
        "faces": "cut short: colour had rejected it (mean_channel_std_low), nothing could rescue it"
    }
    assert cut_short.criteria[1].result == "undecided" and cut_short.criteria[1].value is None
    assert "cut short" in str(cut_short.criteria[1].why_unmeasured)
    assert set(unread.unmeasured) == {"colour", "faces"} and "unreadable" in unread.unmeasured["colour"]
    assert "filter faces did not measure; cut short" in tell(cut_short)
    assert "centerface" not in tell(cut_short) and "centerface" in tell(cut_short, is_verbose=True)
    assert "weights that measured it" in tell(no_face) and no_face.weights["centerface"] not in tell(no_face)
    lines = ({"text": "a man\nby a\x1b[31m lake\n", "source": "laion", "box": None},)
    assert '\ncaptions\n  "a man\n   by a\\u001b[31m lake" from laion\n' in tell(replace(no_face, captions=lines))


def test_an_image_that_came_twice_has_a_row_for_each_time(tmp_path: Path) -> None:
    url = "http://example.org/same.jpg"
    samples = [sample_members(key, colourful(n), url=url) for n, key in enumerate(("a", "b"))]
    write_shard(tmp_path / "in", "00000", samples)
    curate(tmp_path / "in", tmp_path / "run" / "curate", recipe_from(tmp_path), ALONE)
    (rows,) = find_images(stages_of(tmp_path / "run"), "b")
    assert {found.row["uid"] for found in rows} == {uid_of_url(url)}
    assert [found.row["reason"] for found in rows] == [None, "duplicate_uid"]


def test_a_picture_of_a_folder_is_found_by_its_path_from_anywhere_and_by_its_bytes(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    files = {"a/one.jpg": 1, "a/two.v2.png": 2, "b/one.jpg": 3, "b/one.png": 4}
    for name, number in files.items():
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(colourful(number, "PNG" if name.endswith("png") else "JPEG"))
    curate(photos, tmp_path / "run/curate", recipe_from(tmp_path), ALONE)
    for name in files:
        for typed in (str(photos / name), f"./photos/{name}", name):
            assert story_of(tmp_path / "run", typed).stages[0].facts["sha256"] == sha256_of(photos / name), typed
    (tmp_path / "renamed.jpg").write_bytes((photos / "a/one.jpg").read_bytes())
    assert story_of(tmp_path / "run", str(tmp_path / "renamed.jpg")).uid == story_of(tmp_path / "run", "a/one").uid
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/two.v2.png").write_bytes(colourful(5, "PNG"))
    for other in ("c/three.jpg", str(tmp_path / "elsewhere/two.v2.png"), "https://never.example/a/one.jpg", "x" * 300):
        with pytest.raises(UsageError, match="path of its file"):
            why(tmp_path / "run", other)


def test_a_path_at_which_nothing_lies_is_taken_for_what_it_ends_with_and_one_is_told_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.jpg").write_bytes(colourful(1))
    curate(tmp_path / "photos", tmp_path / "run/curate", recipe_from(tmp_path), ALONE)
    for typed in ("one.jpg", "./one.jpg", str(tmp_path / "photos/one.jpg")):
        assert len(why(tmp_path / "run", typed)) == 1 and not caplog.text
    assert len(why(tmp_path / "run", "of/another/machine/one.jpg")) == 1
    assert "of/another/machine/one.jpg: no such file here; taken for one.jpg" in caplog.text


@pytest.mark.slow
def test_the_command_prints_words_or_json(run: Path) -> None:
    command = [sys.executable, "-m", "cli", "why", str(run), url_of(GREY)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "colour: 2 <= mean_channel_std: 0, fails (low)   <- this decided" in told
    (values,) = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert values["stages"][-1]["rejected_by"] == "colour"
    unknown = subprocess.run([*command[:-1], "nokey"], capture_output=True, text=True, check=False)
    assert (unknown.returncode, "knows it now" in unknown.stderr) == (2, True)
