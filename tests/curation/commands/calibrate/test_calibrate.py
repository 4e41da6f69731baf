"""`calibrate`, and `decide` by the lock that it writes: a real run, real labels, the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.curate.stage import curate
from curation.dataset.labels import Label, line_of
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_manifest
from curation.dataset.sample import uid_of_url
from curation.errors import UsageError
from curation.run.runner import Spread
from tests.curation.shards import colourful, grey, recipe_from, sample_members, write_shard

RECIPE = """
schema_version = 1
name = "loose"
[curate]
isolate = false
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 0.0 }
"""
NUM_OF_EACH = 40
HOSTS = 8


def url_of(number: int) -> str:
    return f"http://host{number % HOSTS}.example.org/{number}.jpg"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps all: forty pictures in colour and forty without, of eight hosts."""
    folder = tmp_path_factory.mktemp("calibrate")
    pictures = [colourful(number) if number < NUM_OF_EACH else grey(number) for number in range(2 * NUM_OF_EACH)]
    for shard in range(2):
        ours = list(enumerate(pictures))[shard::2]
        members = [sample_members(f"{number:03d}", picture, url=url_of(number)) for number, picture in ours]
        write_shard(folder / "run" / "fetch", f"{shard:05d}", members)
    curate(folder / "run" / "fetch", folder / "run" / "curate", recipe_from(folder, RECIPE), Spread(0))
    labels = [
        Label(uid_of_url(url_of(number)), "single" if number < NUM_OF_EACH else "bw", "anna", "2026-01-01T00:00:00Z")
        for number in range(2 * NUM_OF_EACH)
    ]
    (folder / "labels.jsonl").write_text("".join(map(line_of, labels)))
    return folder


def call(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if done.exception is not None:
        raise done.exception
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def kept(run: Path) -> int:
    return read_manifest(run / "run" / "curate").num_kept


def test_a_limit_from_labels_changes_what_decide_keeps_and_says_where_it_comes_from(run: Path, tmp_path: Path) -> None:
    lock = tmp_path / "thresholds.lock.toml"
    told = call("calibrate", run / "labels.jsonl", run / "run", "--recall", "1", "--out", lock)
    (limit,) = told["limits"]
    assert (limit["filter"], limit["score"]) == ("colour", "mean_channel_std")
    assert limit["recall"][0] == limit["precision"][0] == 1 and limit["sources_left_out"]["precision"][0] == 1
    assert limit["own"]["recall"][0] == 0 and limit["num_labels"] == {"bw": NUM_OF_EACH, "single": NUM_OF_EACH}
    assert limit["is_enough"], limit["num_more"]
    recipe = ("--recipe", run / "recipe.toml", "--set", f"limits={lock}")
    forecast = call("decide", run / "run", *recipe, "--dry-run")
    assert (forecast["num_kept"], forecast["calls"], kept(run)) == (NUM_OF_EACH, {}, 2 * NUM_OF_EACH)
    call("decide", run / "run", *recipe, "--workers", "0")
    assert kept(run) == NUM_OF_EACH
    rows = [row for part in (run / "run" / "curate").glob("*.parquet") for row in read_ledger(part).to_pylist()]
    reasons = {row["reason"] for row in rows if not row["kept"]}
    assert reasons == {"mean_channel_std_low"}
    manifest = read_manifest(run / "run" / "curate")
    assert manifest.recipe["limits"]["labels_sha256"] == limit_labels(lock) and manifest.recipe["limits"]["date"]
    call("decide", run / "run", "--recipe", run / "recipe.toml", "--workers", "0")
    assert kept(run) == 2 * NUM_OF_EACH


def limit_labels(lock: Path) -> str:
    from curation.recipe.limits import read_lock

    return read_lock(lock).labels_sha256


def test_pictures_that_a_queue_rarely_draws_weigh_more(run: Path, tmp_path: Path) -> None:
    """Ten grey ones, called `single`, that were drawn with a tenth of the chance of the others, count as a hundred."""
    lines = []
    for number in range(2 * NUM_OF_EACH):
        is_odd = NUM_OF_EACH <= number < NUM_OF_EACH + 10
        word = "bw" if number >= NUM_OF_EACH and not is_odd else "single"
        chance = 0.1 if is_odd else 1.0
        lines.append(Label(uid_of_url(url_of(number)), word, "anna", "2026-01-01T00:00:00Z", "near", chance))
    (tmp_path / "labels.jsonl").write_text("".join(map(line_of, lines)))
    out = tmp_path / "a.lock.toml"
    (limit,) = call("calibrate", tmp_path / "labels.jsonl", run / "run", "--recall", "1", "--out", out)["limits"]
    share, low, high, effective = limit["precision"]
    assert share == pytest.approx(30 / 130, abs=1e-4) and low < share < high
    assert effective == pytest.approx(130**2 / (30 + 10 * 100), abs=0.1)
    assert not limit["is_enough"] and limit["sources_left_out"]["precision"][0] == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--filter", "faces"], "the run's recipe has colour"),
        (["--filter", "colour", "--score", "hue_spread_deg"], "no label says what it is to reject"),
        (["--filter", "colour", "--score", "no_such", "--reject", "bw"], "no column 'colour_scores.no_such'"),
        (["--score", "toning_residual"], "name its filter too"),
        (["--precision", "0.9", "--recall", "0.9"], "aim at one of them"),
        (["--filter", "colour", "--reject", "text"], "0 labelled text and 40 single have this score"),
    ],
)
def test_what_labels_cannot_say_is_one_message(run: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call("calibrate", run / "labels.jsonl", run / "run", "--out", tmp_path / "a.toml", *arguments)


def test_labels_of_one_source_give_a_limit_with_a_loud_warning_that_nothing_was_left_out(
    run: Path, tmp_path: Path
) -> None:
    rows = [row for part in sorted((run / "run/curate").glob("*.parquet")) for row in read_ledger(part).to_pylist()]
    said = ["bw" if int(row["key"]) >= NUM_OF_EACH else "single" for row in rows]
    lines = [f"{row['key']}.jpg,{label},{row['sha256']},one" for row, label in zip(rows, said, strict=True)]
    (tmp_path / "manifest.csv").write_text("\n".join(["file,label,sha256,source", *lines]))
    words = ["calibrate", tmp_path, run / "run", "--recall", "1", "--out", tmp_path / "thresholds.lock.toml"]
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, done.exception
    assert "NO FIGURES WITH SOURCES LEFT OUT: all labels are of one source" in done.stderr
    assert "left out: none" in done.stdout


def test_limits_of_the_same_labels_stand_together_and_those_of_others_give_way(run: Path, tmp_path: Path) -> None:
    from curation.recipe.limits import read_lock

    out, labels = tmp_path / "a.lock.toml", run / "labels.jsonl"
    asked = ("--filter", "colour", "--score", "toning_residual", "--reject", "bw")
    call("calibrate", labels, run / "run", "--out", out, *asked)
    call("calibrate", labels, run / "run", "--out", out)
    assert [limit.score for limit in read_lock(out).limits] == ["toning_residual", "mean_channel_std"]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text("".join(labels.read_text().splitlines(keepends=True)[1:]))
    done = CliRunner().invoke(app, ["calibrate", str(fewer), str(run / "run"), "--out", str(out)])
    assert done.exit_code == 0 and "colour.toning_residual was calibrated on other labels" in done.stderr
    assert [limit.score for limit in read_lock(out).limits] == ["mean_channel_std"]
    out.write_text("a = 1\n")
    with pytest.raises(UsageError, match="not written over"):
        call("calibrate", labels, run / "run", "--out", out)
