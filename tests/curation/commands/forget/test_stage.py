import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.fetch.stage import fetch
from curation.commands.forget.stage import foresee, forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.stage import pack
from curation.commands.rank.stage import rank
from curation.commands.report.write import write_report
from curation.commands.verify.check import verify
from curation.commands.why.story import why
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_manifest
from curation.dataset.sample import uid_of_url
from curation.dataset.tar import read_samples
from curation.dataset.tombstones import Tombstones, hashed, tombstones_of, write_tombstones
from curation.errors import LeaseError, ShardError, UsageError
from curation.recipe.recipe import Recipe, load_recipe
from curation.storage.lease import hold
from curation.storage.paths import filesystem
from curation.storage.publish import publish_sealed, read_sealed
from demo.server import DemoServer, serve
from tests.curation.buckets import put_run, s3_bucket
from tests.curation.killing import killing
from tests.curation.shards import bytes_of, colourful, mixed_source, recipe_from, sample_members, write_shard
from tests.curation.whole_run import (
    ALONE,
    WAIVER,
    caption_of,
    files_of,
    final_url_of,
    flip_a_bit,
    url_of,
    write_metadata,
    write_run,
)

FETCHING = """
schema_version = 1
name = "fetching"
[fetch]
timeout_s = 2
[[filters]]
name = "colour"
"""
STAGES = ("rank", "fetch", "curate", "pack")
NUM_IMAGES = 24
PACKED, GREY, GONE, BELOW_CUT = 0, 1, 4, 25


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report; its inputs lie beside it."""
    run = tmp_path_factory.mktemp("whole") / "run"
    write_run(run, NUM_IMAGES)
    write_report(run)
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    shutil.copytree(whole.parent / "run-input", tmp_path / "run-input")
    return tmp_path / "run"


def recipe_of_run(run: Path) -> Recipe:
    return load_recipe(run.parent / "run-input" / "recipe.toml")


def take_out(run: Path, *lines: str) -> dict[str, Any]:
    return forget(run, read_requests(lines, "list"))[1]


def row_of(run: Path, stage: str, number: int) -> dict[str, Any]:
    """Return the row of picture `number` in a stage's ledgers."""
    return next(row for row in rows_of(run, stage) if row["uid"] == uid_of_url(url_of(number)))


def rows_of(run: Path, stage: str) -> Iterator[dict[str, Any]]:
    names = ["ledger.parquet"] if stage in ("rank", "pack") else sorted(p.name for p in (run / stage).glob("*.parquet"))
    return (row for name in names for row in read_ledger(run / stage / name).to_pylist())


def everything_said(run: Path) -> str:
    """Return all that any file of a run says, Parquet unpacked, other bytes as they are."""
    said = []
    for path in sorted(run.rglob("*")):
        if path.suffix == ".parquet":
            table = pq.read_table(path, partitioning=None)
            said.append(repr(table.to_pylist()) + repr(table.schema.metadata))
        if path.is_file():
            said.append(path.read_bytes().decode("latin-1"))
    return "\n".join(said)


def secrets_of(run: Path, number: int) -> list[str]:
    """Return what must be gone of a picture: its address, captions, and the sha256 of its bytes in each stage."""
    sha256s = {row_of(run, stage, number).get(name) for stage in STAGES[1:] for name in ("sha256", "source_sha256")}
    return [url_of(number), caption_of(number), f"alt text of number {number:06d}", *filter(None, sha256s)]


def test_nothing_is_left_of_a_forgotten_image_but_hashes_and_everything_else_stays(run: Path) -> None:
    numbers = (PACKED, 3, 8)
    secrets = [secret for number in numbers for secret in secrets_of(run, number)]
    before = everything_said(run)
    assert all(secret in before for secret in secrets)
    kept = {row["uid"] for row in rows_of(run, "pack") if row["kept"]}
    receipt = take_out(run, *(url_of(number) for number in numbers))
    after = everything_said(run)
    assert [secret for secret in secrets if secret in after] == []
    assert {row["uid"] for row in rows_of(run, "pack") if row["kept"]} == kept - {
        uid_of_url(url_of(n)) for n in numbers
    }
    assert verify(run, ALONE).faults == ()
    assert not (run / "report" / "index.html").exists()
    assert receipt["num_images"] == 3
    assert receipt["rows_buried"] == {"rank": 3, "fetch": 3, "curate": 3, "pack": 3}
    assert receipt["samples_removed"] == {"fetch": 3, "curate": 3, "pack": 3}


@pytest.mark.parametrize("kind", ["url", "uid", "key", "sha256", "packed sha256", "domain"])
def test_an_image_is_forgotten_by_whatever_names_it(run: Path, kind: str) -> None:
    row, packed = row_of(run, "fetch", 8), row_of(run, "pack", 8)
    line = {
        "url": url_of(8), "uid": row["uid"], "key": row["key"], "sha256": row["sha256"],
        "packed sha256": packed["sha256"], "domain": "domain:host1.example.org",
    }[kind]  # fmt: skip
    secrets = secrets_of(run, 8)
    receipt = take_out(run, line)
    said = everything_said(run)
    assert [secret for secret in secrets if secret in said] == []
    (answer,) = receipt["requests"]
    assert answer["found_in"] == (
        {"rank": 4, "fetch": 4, "curate": 3, "pack": 2} if kind == "domain" else answer["found_in"]
    )
    assert kind == "domain" or receipt["num_images"] == 1
    assert set(answer["found_in"]) >= {"rank", "fetch"} if kind in ("url", "uid", "key") else answer["found_in"]
    assert verify(run, ALONE).ok


SPELLINGS = (
    "http://host3.example.org/photos/000010.jpg", "https://host3.example.org/photos/000010.jpg#face",
    "host3.example.org/photos/000010.jpg", "HTTP://Me:pw@HOST3.example.org.:80/./photos/%3000010%2Ejpg",
    "cdn.example.net/served/000010.jpg", "http://cdn.example.net:443/served/../served/00001%30.jpg",
)  # fmt: skip


@pytest.mark.slow
def test_every_spelling_of_an_address_and_where_it_led_names_the_image_everywhere(run: Path) -> None:
    uid, before = uid_of_url(url_of(10)), files_of(run)
    for line in (*SPELLINGS, "domain:cdn.example.net"):
        forecast = foresee(run, read_requests([line], "list"))
        assert uid in forecast["uids"] and len(forecast["uids"]) == (3 if line.startswith("domain") else 1), line
    for spelling in SPELLINGS:
        assert [story.uid for story in why(run, spelling)] == [uid], spelling
    assert files_of(run) == before
    secrets = [*secrets_of(run, 10), str(final_url_of(10))]
    receipt = take_out(run, SPELLINGS[-1], "http://cdn.example.net/other")
    assert [answer["num_images"] for answer in receipt["requests"]] == [1, 0]
    said = everything_said(run)
    assert [secret for secret in secrets if secret in said] == []
    assert all(tombstones_of(run).names(spelling) for spelling in SPELLINGS)
    assert not tombstones_of(run).names("http://host3.example.org/photos/000003.jpg")
    assert verify(run, ALONE).faults == ()


def test_tombstones_that_an_earlier_release_wrote_are_read(run: Path) -> None:
    publish_sealed(run / "forgotten" / "tombstones.json", {"uid": [], "url": [hashed(url_of(3))], "content": [],
                   "domain": []})  # fmt: skip
    assert tombstones_of(run).names(url_of(3))


@pytest.mark.slow
@pytest.mark.parametrize("number", [GREY, GONE, BELOW_CUT])
def test_rejected_images_are_forgotten_too(run: Path, number: int) -> None:
    seen = {stage: read_manifest(run / stage).num_seen for stage in STAGES}
    take_out(run, url_of(number))
    assert url_of(number) not in everything_said(run)
    assert {stage: read_manifest(run / stage).num_seen for stage in STAGES} == seen
    assert read_manifest(run / "rank").rejected["forget"] == {"forgotten": 1}
    assert verify(run, ALONE).ok


def test_a_domain_means_its_subdomains_and_no_other(run: Path) -> None:
    take_out(run, "domain:example.org")
    assert not any(row["kept"] for row in rows_of(run, "rank"))
    assert "example.org" not in everything_said(run)
    assert list((run / "pack").glob("*.tar")) == []
    assert verify(run, ALONE).ok


def test_a_neighbour_of_a_domain_stays(run: Path) -> None:
    receipt = take_out(run, "domain:ost1.example.org", "domain:org.example", "domain:host1.example.orgs")
    assert receipt["num_images"] == 0 and receipt["rewritten"] == []
    assert (run / "report" / "index.html").exists()


def test_only_files_that_held_one_are_rewritten(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.*") if path.suffix in (".tar", ".parquet")}
    receipt = take_out(run, url_of(3))
    changed = {
        path.relative_to(run).as_posix()
        for path, mtime in before.items()
        if not path.exists() or path.stat().st_mtime_ns != mtime
    }
    assert changed == {
        "rank/00000.parquet", "rank/ledger.parquet", "fetch/00000.tar", "fetch/00000.parquet",
        "curate/00000.tar", "curate/00000.parquet", "pack/00000.tar", "pack/00000.parquet",
        "pack/index.parquet", "pack/ledger.parquet",
    }  # fmt: skip
    assert changed < {one["file"] for one in receipt["rewritten"]}


def rerun(run: Path) -> None:
    recipe, inputs = recipe_of_run(run), run.parent / "run-input"
    rank(inputs / "facecaption.parquet", inputs / "laion.parquet", run / "rank", recipe)
    fetch(run / "rank", run / "fetch", recipe, ALONE, waiver=WAIVER)
    curate(run / "fetch", run / "curate", recipe, ALONE)
    pack(run / "curate", run / "pack", recipe, ALONE)


def test_running_every_stage_again_readmits_nothing_and_redoes_nothing(run: Path) -> None:
    take_out(run, url_of(3), url_of(12), row_of(run, "fetch", 20)["sha256"])
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.suffix in (".tar", ".parquet")}
    bytes_before = {stage: bytes_of(run / stage) for stage in STAGES}
    rerun(run)  # a part that counted as new would be asked for at addresses that do not exist
    assert {stage: bytes_of(run / stage) for stage in STAGES} == bytes_before
    redone = {path.name for path, mtime in before.items() if path.stat().st_mtime_ns != mtime}
    assert redone <= {"index.parquet", "ledger.parquet", "findings.parquet"}
    assert verify(run, ALONE).ok


@pytest.mark.slow
def test_stages_that_are_run_from_nothing_give_the_very_files_that_forgetting_left(run: Path) -> None:
    take_out(run, url_of(3), url_of(12), "domain:host2.example.org")
    left = {stage: bytes_of(run / stage) for stage in ("curate", "pack")}
    parts = {path.name: pq.read_table(path) for path in (run / "rank").glob("0*.parquet")}
    kept = {row["uid"] for row in rows_of(run, "pack") if row["kept"]}
    shutil.rmtree(run / "pack")
    pack(run / "curate", run / "pack", recipe_of_run(run), ALONE)
    assert bytes_of(run / "pack") == left["pack"]
    for stage in ("rank", "curate", "pack"):
        shutil.rmtree(run / stage)
    rerun(run)
    assert {path.name: pq.read_table(path) for path in (run / "rank").glob("0*.parquet")} == parts
    assert {row["uid"] for row in rows_of(run, "pack") if row["kept"]} == kept
    assert read_manifest(run / "rank").rejected["forget"]["forgotten"] == 2 + 4
    assert verify(run, ALONE).ok


def test_a_source_that_still_holds_a_forgotten_image_cannot_bring_it_back(tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", recipe_from(tmp_path)
    source = mixed_source(tmp_path / "in", 2)
    curate(source, run / "curate", recipe, ALONE)
    pack(run / "curate", run / "pack", recipe, ALONE)
    take_out(run, "http://example.org/00001.jpg", "http://example.org/00130.png")
    left = {stage: bytes_of(run / stage) for stage in ("curate", "pack")}
    assert verify(run, ALONE).ok
    curate(source, run / "curate", recipe, ALONE)
    pack(run / "curate", run / "pack", recipe, ALONE)
    assert {stage: bytes_of(run / stage) for stage in ("curate", "pack")} == left
    shutil.rmtree(run / "curate")
    shutil.rmtree(run / "pack")
    curate(source, run / "curate", recipe, ALONE)
    pack(run / "curate", run / "pack", recipe, ALONE)
    assert {stage: bytes_of(run / stage) for stage in ("curate", "pack")} == left
    assert verify(run, ALONE).ok


@pytest.mark.parametrize("line", ["http://a.org/1.jpg", "domain:a.org"])
def test_the_same_picture_at_another_address_goes_too_and_stays_away(tmp_path: Path, line: str) -> None:
    def write(folder: Path, *urls: str) -> None:
        samples = [sample_members(str(n), colourful(1), url=url) for n, url in enumerate(urls)]
        write_shard(folder, "00000", [*samples, sample_members("other", colourful(2))])

    recipe, run = recipe_from(tmp_path), tmp_path / "run"
    write(tmp_path / "in", "http://a.org/1.jpg", "http://b.org/2.jpg")
    curate(tmp_path / "in", run / "curate", recipe, ALONE)
    assert take_out(run, line)["num_images"] == 2
    write(tmp_path / "in2", "http://c.org/3.jpg")
    shutil.rmtree(run / "curate")
    manifest = curate(tmp_path / "in2", run / "curate", recipe, ALONE)
    assert (manifest.num_kept, manifest.rejected) == (1, {"forget": {"forgotten": 1}})


def test_a_packed_shard_of_which_nothing_is_left_goes_and_the_others_keep_their_names(run: Path) -> None:
    gone = [row["url"] for row in read_ledger(run / "pack" / "00001.parquet").to_pylist()]
    names = {report.shard for report in read_manifest(run / "pack").shards}
    receipt = take_out(run, *gone)
    assert {report.shard for report in read_manifest(run / "pack").shards} == names - {"00001"}
    assert not list((run / "pack").glob("00001*"))
    assert "pack/00001.tar" in {one["file"] for one in receipt["deleted"]}
    assert verify(run, ALONE).faults == ()
    before = bytes_of(run / "pack")
    pack(run / "curate", run / "pack", recipe_of_run(run), ALONE)
    assert bytes_of(run / "pack") == before
    assert verify(run, ALONE).ok


def test_the_receipt_and_the_tombstones_hold_no_plain_thing(run: Path) -> None:
    lines = [url_of(3), "domain:host2.example.org", row_of(run, "fetch", 8)["key"], row_of(run, "fetch", 9)["sha256"]]
    path, receipt = forget(run, read_requests([*lines, "http://never.example/seen.jpg"], "list"))
    assert read_sealed(path) == receipt and path.parent == run / "forgotten"
    said = "".join(file.read_text() for file in (run / "forgotten").rglob("*.json"))
    for plain in (*lines[:2], lines[3], "host2", "never.example", url_of(8), caption_of(3)):
        assert plain.removeprefix("domain:") not in said
    assert [answer["num_images"] for answer in receipt["requests"]] == [1, 4, 1, 1, 0]
    for one in receipt["rewritten"]:
        assert len(one["old_sha256"]) == len(one["new_sha256"]) == 64
        assert one["old_sha256"] != one["new_sha256"]
    assert tombstones_of(run).names("http://never.example/seen.jpg")
    assert not tombstones_of(run).names("http://never.example/other.jpg")


@pytest.mark.slow
def test_what_is_forgotten_later_adds_to_what_was_forgotten_before(run: Path) -> None:
    take_out(run, url_of(3))
    first = tombstones_of(run)
    again = take_out(run, url_of(3))
    assert again["num_images"] == 0 and again["rewritten"] == []
    take_out(run, url_of(8), url_of(9))
    assert tombstones_of(run).url > first.url
    assert read_manifest(run / "curate").rejected["forget"] == {"forgotten": 3}
    assert len(list((run / "forgotten").glob("receipt-*.json"))) == 3
    assert verify(run, ALONE).ok
    rerun(run)
    assert verify(run, ALONE).ok


@pytest.mark.slow
def test_a_report_that_is_made_anew_holds_and_shows_nothing_of_it(run: Path) -> None:
    secrets = secrets_of(run, 3)
    take_out(run, url_of(3))
    page = write_report(run).read_text()
    assert json.loads((run / "report" / "report.json").read_text())["all_hold"]
    assert not any(secret in page for secret in secrets)
    assert verify(run, ALONE).ok


def test_why_says_that_an_image_was_forgotten(run: Path) -> None:
    take_out(run, url_of(3))
    (story,) = why(run, url_of(3))
    assert {(part.rejected_by, part.reason, part.file) for part in story.stages} == {("forget", "forgotten", None)}
    assert story.url is None and story.captions == ()


def test_a_rotten_file_is_not_carried_over_and_nothing_is_changed(run: Path) -> None:
    flip_a_bit(run / "curate" / "00000.tar", random.Random(5))
    before = files_of(run)
    with pytest.raises(ShardError, match=r"curate/00000.tar: not the bytes"):
        take_out(run, url_of(3))
    after = {name: content for name, content in files_of(run).items() if not name.startswith("forgotten/")}
    assert after == before


def test_an_unfinished_stage_loses_it_too(run: Path) -> None:
    (run / "pack" / "manifest.json").unlink()
    secrets = secrets_of(run, 3)
    take_out(run, url_of(3))
    said = everything_said(run)
    assert [secret for secret in secrets if secret in said] == []
    pack(run / "curate", run / "pack", recipe_of_run(run), ALONE)
    assert verify(run, ALONE).ok


def test_a_run_at_work_is_left_alone_and_one_stage_is_no_run(run: Path) -> None:
    before = files_of(run)
    with hold(run / "curate"), pytest.raises(LeaseError):
        take_out(run, url_of(3))
    with pytest.raises(UsageError, match="give the run"):
        take_out(run / "curate", url_of(3))
    assert files_of(run) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "stride", [17, pytest.param(1, marks=[pytest.mark.campaign, pytest.mark.timeout(3600)], id="every")]
)
def test_killed_at_its_commit_points_and_run_again_it_ends_like_an_uninterrupted_one(
    tmp_path: Path, stride: int
) -> None:
    write_run(tmp_path / "run", num_images=6, num_shard_samples=10)
    write_report(tmp_path / "run")
    requests = read_requests([url_of(0), url_of(3)], "list")
    copies = [tmp_path / "whole", tmp_path / "again"]
    for copy in copies:
        shutil.copytree(tmp_path / "run", copy)
    with killing() as killer:
        # Of two counts the smaller: a slow one has heartbeats in it.
        num_steps = min(killer.count_steps(partial(forget, copy, requests)) for copy in copies)
        assert num_steps > 100
        expected = outcome(tmp_path / "whole")
        for step in range(0, num_steps, stride):
            run = tmp_path / "killed"
            shutil.copytree(tmp_path / "run", run)
            killer.kill_at(step, partial(forget, run, requests))
            forget(run, requests)
            assert outcome(run) == expected, step
            shutil.rmtree(run)
    assert verify(tmp_path / "whole", ALONE).ok


def outcome(run: Path) -> dict[str, bytes]:
    """Return what a run holds, without what says when and how often it was asked."""
    return {name: content for name, content in files_of(run).items() if "receipt-" not in name}


@pytest.mark.slow
def test_a_run_that_is_half_forgotten_is_refused_by_every_stage_until_it_is_done(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as end:
        end.setattr("curation.commands.forget.stage.roll_forward", stop_once_it_counts)
        with pytest.raises(KeyboardInterrupt):
            take_out(run, url_of(3))
    inputs = run.parent / "run-input"
    stages: list[Callable[[Recipe], Any]] = [
        lambda recipe: rank(inputs / "facecaption.parquet", inputs / "laion.parquet", run / "rank", recipe),
        lambda recipe: fetch(run / "rank", run / "fetch", recipe, ALONE, waiver=WAIVER),
        lambda recipe: curate(run / "fetch", run / "curate", recipe, ALONE),
        lambda recipe: pack(run / "curate", run / "pack", recipe, ALONE),
    ]
    for stage in stages:
        with pytest.raises(UsageError, match="a `forget` was interrupted"):
            stage(recipe_of_run(run))
    assert any("interrupted" in str(fault) for fault in verify(run, ALONE).faults)
    assert take_out(run, url_of(8))["num_images"] == 1
    assert verify(run, ALONE).ok
    assert read_manifest(run / "pack").rejected["forget"] == {"forgotten": 2}
    rerun(run)


def stop_once_it_counts(run: Path) -> None:
    """End a `forget` after its journal was written and before a file was put in its place."""
    if (run / "forgotten" / "journal.json").exists():
        raise KeyboardInterrupt


@pytest.mark.slow
def test_the_command_prints_what_it_did_and_where_the_receipt_lies(run: Path, tmp_path: Path) -> None:
    listed = tmp_path / "requests.txt"
    listed.write_text(f"{url_of(3)}\r\ndomain:host2.example.org # all of it\r\nhttp://never.example/\x1b[2Ja.jpg\r\n")
    command = ["forget", str(run), "--list", str(listed)]
    before = files_of(run)
    foreseen = CliRunner().invoke(app, [*command, "--dry-run"])
    assert foreseen.exit_code == 4 and f"would forget {uid_of_url(url_of(3))}" in foreseen.stdout
    assert "line 2: domain:host2.example.org (domain): 4 images\n" in foreseen.stdout
    assert files_of(run) == before
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, done.stderr) == (4, "line 3: http://never.example/\\u001b[2Ja.jpg (url): found nothing\n")
    assert done.stdout.startswith("3 requests, 2 of them found: 5 images\n")
    assert Path(done.stdout.splitlines()[-1]).is_file()
    listed.write_text(f"{url_of(3)}\ndomain:host2.example.org\n")
    again = CliRunner().invoke(app, command)
    assert (again.exit_code, again.stderr) == (0, "")
    listed.write_text("uid:wrong\n")
    wrong = subprocess.run([sys.executable, "-m", "cli", *command], capture_output=True, text=True, check=False)
    assert (wrong.returncode, "line 1: not a uid" in wrong.stderr) == (2, True)


def test_no_forgotten_sample_is_in_any_tar(run: Path) -> None:
    take_out(run, url_of(3), url_of(8))
    uids = {uid_of_url(url_of(3)), uid_of_url(url_of(8))}
    for path in run.rglob("*.tar"):
        assert not uids & {sample.metadata["uid"] for sample in read_samples(path) if "uid" in sample.metadata}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "pictures").mkdir()
    for seed in range(4):
        (tmp_path / "pictures" / f"picture-{seed}.jpg").write_bytes(colourful(seed))
    with serve(tmp_path / "pictures") as running:
        yield running


@pytest.mark.slow
def test_fetch_asks_for_no_forgotten_address_and_keeps_no_forgotten_picture(server: DemoServer, tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", recipe_from(tmp_path / "recipe", FETCHING)
    urls = [f"{server.base_url}/images/picture-{seed}.jpg" for seed in range(4)]
    rank(*write_metadata(tmp_path / "recipe", len(urls), urls), tmp_path / "elsewhere", recipe)
    content = hashlib.sha256(colourful(2)).hexdigest()
    write_tombstones(run, Tombstones(url=frozenset({hashed(urls[1])}), content=frozenset({hashed(content)})))
    manifest = fetch(tmp_path / "elsewhere", run / "fetch", recipe, ALONE, waiver=WAIVER, allow_loopback=True)
    assert (manifest.num_seen, manifest.num_kept, manifest.rejected) == (4, 2, {"forget": {"forgotten": 2}})
    keys = [row["key"] for row in rows_of(run, "fetch") if row["kept"]]
    assert [sample.key for sample in read_samples(run / "fetch" / "00000.tar")] == keys
    said = everything_said(run)
    assert urls[0] in said and urls[3] in said
    assert urls[1] not in said and urls[2] not in said and content not in said
    asked = {path for path in server.requests if path.startswith("/images/")}
    assert asked == {f"/images/picture-{seed}.jpg" for seed in (0, 2, 3)}


@pytest.mark.slow
def test_a_run_in_an_object_store_forgets_like_one_on_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "run", num_images=6, num_shard_samples=10)
    requests = read_requests([url_of(0), url_of(3)], "list")
    with s3_bucket(monkeypatch) as bucket:
        put_run(tmp_path / "run", bucket / "run")
        _, there = forget(bucket / "run", requests)
        _, here = forget(tmp_path / "run", requests)
        assert there["rewritten"] == here["rewritten"]
        assert verify(bucket / "run", ALONE).faults == ()
        files, root = filesystem(bucket / "run")
        stored = {name.removeprefix(f"{root}/"): files.cat_file(name) for name in files.find(root)}
    stored = {name: content for name, content in stored.items() if "_lease" not in name and "receipt-" not in name}
    assert stored == outcome(tmp_path / "run")


@pytest.mark.slow
def test_deciding_again_after_forgetting_measures_the_right_pictures_and_readmits_nothing(run: Path) -> None:
    """Loosening brings grey pictures back: their bytes are read from a source that has lost some samples."""
    take_out(run, url_of(0), url_of(GREY), url_of(3))
    text = (run.parent / "run-input" / "recipe.toml").read_text().replace("min = 2.0", "min = 0.0")
    recipe = recipe_from(run.parent / "loose", text)
    manifest = decide(run, recipe, ALONE)
    assert manifest.rejected["forget"] == {"forgotten": 3}
    back = [row["uid"] for row in rows_by_manifest(run / "curate") if row["kept"]]
    assert uid_of_url(url_of(7)) in back
    assert not {uid_of_url(url_of(number)) for number in (0, GREY, 3)} & set(back)
    shutil.rmtree(run / "pack")
    pack(run / "curate", run / "pack", recipe, ALONE)
    assert verify(run, ALONE).faults == ()
    take_out(run, url_of(7))
    assert verify(run, ALONE).faults == ()
    assert url_of(7) not in everything_said(run)


def rows_by_manifest(folder: Path) -> Iterator[dict[str, Any]]:
    """Return the rows of a stage's ledgers, whatever their files are called."""
    paths = [report.file(folder, ".parquet") for report in read_manifest(folder).shards]
    return (row for path in paths for row in read_ledger(path).to_pylist())


def test_verify_names_an_image_that_is_forgotten_and_alive(run: Path) -> None:
    uid = uid_of_url(url_of(PACKED))
    write_tombstones(run, Tombstones(uid=frozenset({uid})))
    wrong = [fault for fault in verify(run, ALONE).faults if "was forgotten and is here all the same" in fault.wrong]
    assert {fault.file.partition("/")[0] for fault in wrong} == set(STAGES)
    assert all(uid in fault.wrong for fault in wrong)
    take_out(run, uid)
    assert verify(run, ALONE).faults == ()


def test_a_shard_that_is_done_but_named_by_no_manifest_yet_is_not_overlooked(run: Path) -> None:
    folder = run / "curate"
    value = read_sealed(folder / "manifest.json")
    (unnamed,) = (one for one in value["shards"] if one["shard"] == shard_of(run, PACKED))
    value["shards"].remove(unnamed)
    publish_sealed(folder / "manifest.json", value)
    with pytest.raises(UsageError, match=rf"shard {unnamed['shard']} is done, but no manifest names it yet"):
        take_out(run, url_of(PACKED))


def shard_of(run: Path, number: int) -> str:
    """Return the curated shard that holds an image."""
    uid = uid_of_url(url_of(number))
    reports = read_manifest(run / "curate").shards
    (shard,) = (
        report.shard
        for report in reports
        if uid in read_ledger(report.file(run / "curate", ".parquet"))["uid"].to_pylist()
    )
    return shard


def test_a_domain_in_another_script_is_found_however_it_is_written() -> None:
    stones = Tombstones(domain=frozenset({hashed("xn--bcher-kva.example")}))
    for host in ("bücher.example", "BÜCHER.example.", "www.xn--bcher-kva.example"):
        assert stones.hold(None, f"https://{host}/a.jpg")
    assert not stones.hold(None, "https://bucher.example/a.jpg")
