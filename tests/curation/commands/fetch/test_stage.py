"""Fetching: a real downloader against a real server; every row of the selection has its outcome, byte for byte."""

import json
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.commands.fetch.bodies import Arrival
from curation.commands.fetch.download import LOST, UrlOutcome, account, download
from curation.commands.fetch.http import Answer
from curation.commands.fetch.stage import fetch
from curation.commands.importing.convert import import_metadata
from curation.commands.rank.stage import rank
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest, ShardReport
from curation.dataset.rights import rights_of
from curation.dataset.tar import read_samples
from curation.errors import ShardError, UsageError
from curation.recipe.settings import FetchSettings
from curation.run.runner import ShardFailure, Spread
from demo.metadata import FATES
from demo.server import PLACEHOLDER, DemoServer, Route, serve
from tests.curation.shards import bytes_of, colourful, recipe_from

RECIPE = """
schema_version = 1
name = "fetching"
[rank]
rows_per_part = {rows_per_part}
[fetch]
timeout_s = 0.5
num_retries = 1
retry_wait_s = 0
num_threads = {num_threads}
[[filters]]
name = "colour"
"""
ALONE = Spread(num_workers=0)
WAIVER = "the test drew every picture itself"
SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
DETOURS = (Route.MOVED, Route.FLAKY, Route.PAGE, Route.REMOVED, *FATES)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, (image_format, suffix) in enumerate(SUFFIXES.items()):
        (folder / f"{suffix}-picture.{suffix}").write_bytes(colourful(seed, image_format))
    for seed in range(20):
        (folder / f"picture-{seed:02d}.jpg").write_bytes(colourful(100 + seed))
    (folder / PLACEHOLDER).write_bytes(colourful(99, "PNG"))
    with serve(folder) as running:
        yield running


def usual_paths() -> list[str]:
    """Paths of pictures that arrive, in all formats."""
    pictures = [f"/images/picture-{number:02d}.jpg" for number in range(20)]
    return [*pictures, *(f"/images/{suffix}-picture.{suffix}" for suffix in SUFFIXES.values())]


def ranked(folder: Path, urls: list[str], rows_per_part: int = 100) -> Path:
    """Rank metadata that names `urls`, so that they are selected in the order given."""
    num_urls = len(urls)
    faces = {"_id": [f"f{i}" for i in range(num_urls)], "caption": [["A face."]] * num_urls, "url": urls}
    boxes = {"box": ["[1, 2, 30, 40]"] * num_urls}
    scenes = {
        "URL": urls,
        "TEXT": [None if i == 1 else f"alt {i} é" for i in range(num_urls)],
        "WIDTH": [1000 - i for i in range(num_urls)],
        "HEIGHT": [500] * num_urls,
        "NSFW": ["UNLIKELY"] * num_urls,
        "similarity": [None if i == 2 else 0.25 for i in range(num_urls)],
        "LICENSE": ["?"] * num_urls,
        "SAMPLE_ID": list(range(num_urls)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(faces | boxes), folder / "facecaption.parquet")
    pq.write_table(pa.table(scenes), folder / "laion.parquet")
    recipe = recipe_from(folder, RECIPE.format(rows_per_part=rows_per_part, num_threads=4))
    rank(folder / "facecaption.parquet", folder / "laion.parquet", folder / "rank", recipe)
    return folder / "rank"


def run(source: Path, target: Path, num_threads: int = 4, spread: Spread = ALONE) -> Manifest:
    """Fetch a selection."""
    recipe = recipe_from(target.parent, RECIPE.format(rows_per_part=100, num_threads=num_threads))
    return fetch(source, target, recipe, spread, allow_loopback=True, waiver=WAIVER)


def ledger(target: Path) -> list[dict[str, Any]]:
    """The rows of all ledgers in order."""
    return [row for path in sorted(target.glob("0*.parquet")) for row in read_ledger(path).to_pylist()]


def test_pictures_arrive_with_their_own_bytes_and_all_that_is_known_of_them(tmp_path: Path, server: DemoServer) -> None:
    urls = [server.base_url + path for path in usual_paths()[-4:]]
    manifest = run(ranked(tmp_path, urls), tmp_path / "fetch")
    samples = list(read_samples(tmp_path / "fetch" / "00000.tar"))
    assert [sample.url for sample in samples] == urls
    for sample in samples:
        name = str(sample.url).rpartition("/")[2]
        assert sample.image_bytes == (tmp_path / "pictures" / name).read_bytes()
    with tarfile.open(tmp_path / "fetch" / "00000.tar") as tar:
        names = tar.getnames()
    suffixes = [name.partition(".")[2] for name in names]
    assert suffixes == ["jpg", "json", "txt", "jpg", "json", "png", "json", "txt", "webp", "json", "txt"]
    assert [sample.caption for sample in samples] == ["alt 0 é", None, "alt 2 é", "alt 3 é"]
    assert samples[0].metadata["facecaptions"] == [{"id": "f0", "caption": "A face.", "box": [1, 2, 30, 40]}]
    assert (samples[0].metadata["crawled_width"], samples[0].metadata["crawled_height"]) == (1000, 500)
    assert "similarity" not in samples[2].metadata
    assert manifest.num_kept == 4


def test_whose_a_picture_is_goes_with_it_from_any_table_to_the_tar_and_other_rows_keep_their_bytes(
    tmp_path: Path, server: DemoServer
) -> None:
    urls = [server.base_url + path for path in usual_paths()[:3]]
    plain, tables = ranked(tmp_path, urls), tmp_path / "tables"
    tables.mkdir()
    owners: tuple[dict[str, list[str | None]], ...] = (
        {},
        {"Creator": ["Ann", ""], "license_url": [None, "http://cc.org/by"]},
    )
    for number, columns in enumerate(owners):
        rows = pq.read_table(tmp_path / "laion.parquet").slice(2 * number, 2 - number).to_pydict()
        rows |= {name: values[: 2 - number] for name, values in columns.items()}
        pq.write_table(pa.table(rows), tables / f"{number}.parquet")
    more = {
        "URL": urls[0],
        "TEXT": "x",
        "WIDTH": 9000,
        "HEIGHT": 9000,
        "NSFW": "UNLIKELY",
        "credits": ["Bo", "Cy"],
        "Page URL": "http://a.org/1",
    }
    (tables / "2.jsonl").write_text(json.dumps(more))
    for name, source in (("plain", tmp_path / "laion.parquet"), ("owned", tables)):
        import_metadata(str(source), tmp_path / f"{name}.parquet")
    for table in (tmp_path / "plain.parquet", plain / "00000.parquet"):
        assert "rights_json" not in pq.read_schema(table).names
    recipe = recipe_from(tmp_path, RECIPE.format(rows_per_part=100, num_threads=4))
    rank(tmp_path / "facecaption.parquet", tmp_path / "owned.parquet", tmp_path / "owned", recipe)
    run(tmp_path / "owned", tmp_path / "fetch")
    found = {sample.url: rights_of(sample.metadata) for sample in read_samples(tmp_path / "fetch" / "00000.tar")}
    assert found[urls[0]].columns == {"Page URL": "http://a.org/1", "credits": '["Bo", "Cy"]'}
    assert (found[urls[0]].author, found[urls[0]].license) == ('["Bo", "Cy"]', None)
    assert found[urls[1]].columns == {"license": "?"}
    assert found[urls[2]].columns == {"Creator": "Ann", "license": "?"} and found[urls[2]].author == "Ann"


def test_every_row_has_its_outcome_and_every_failure_its_reason(tmp_path: Path, server: DemoServer) -> None:
    urls = [f"{server.base_url}/{route}/picture-{number:02d}.jpg" for number, route in enumerate(DETOURS)]
    manifest = run(ranked(tmp_path, urls), tmp_path / "fetch")
    rows = ledger(tmp_path / "fetch")
    assert [row["url"] for row in rows] == urls
    for route, row in zip(DETOURS, rows, strict=True):
        assert row["reason"] == FATES.get(route), route
        assert row["rejected_by"] == (None if row["kept"] else "fetch")
        assert (row["sha256"] is None) == (not row["kept"])
    assert manifest.num_seen == len(urls) == manifest.num_kept + sum(manifest.rejected["fetch"].values())


def test_what_is_no_picture_is_kept_for_the_decode_gate_to_name(tmp_path: Path, server: DemoServer) -> None:
    run(ranked(tmp_path, [f"{server.base_url}/page/a.jpg"]), tmp_path / "fetch")
    with tarfile.open(tmp_path / "fetch" / "00000.tar") as tar:
        assert tar.getnames()[0].endswith(".bin")


def test_hosts_that_are_not_there_are_named_so(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    run(ranked(tmp_path, [f"http://127.0.0.1:{port}/a.jpg", f"http://{'a' * 70}.org/a.jpg"]), tmp_path / "fetch")
    assert [row["reason"] for row in ledger(tmp_path / "fetch")] == ["connection", "bad_url"]


def test_only_what_can_succeed_is_asked_for_again(tmp_path: Path, server: DemoServer) -> None:
    routes = (Route.FLAKY, Route.BROKEN, Route.MISSING, Route.GONE, Route.REFUSED, Route.EMPTY, Route.SHORT, Route.LOOP)
    urls = [f"{server.base_url}/{route}/picture-{number:02d}.jpg" for number, route in enumerate(routes)]
    run(ranked(tmp_path, urls), tmp_path / "fetch")
    asked = {path.split("/")[1]: count for path, count in server.requests.items() if path.split("/")[1] != "images"}
    assert {route for route, count in asked.items() if count == 2} == {Route.FLAKY, Route.BROKEN}
    assert {route for route, count in asked.items() if count == 1} == set(routes) - {Route.FLAKY, Route.BROKEN}
    stats = json.loads((tmp_path / "fetch" / "00000_stats.json").read_text())
    assert stats["run"]["asked"] == [8, 2]


def test_the_ledger_keeps_the_evidence(tmp_path: Path, server: DemoServer) -> None:
    routes = (Route.IMAGES, Route.REFUSED, Route.MOVED, Route.MISSING)
    run(ranked(tmp_path, [f"{server.base_url}/{route}/picture-00.jpg" for route in routes]), tmp_path / "fetch")
    arrived, refused, moved, missing = ledger(tmp_path / "fetch")
    assert json.loads(arrived["headers"])["content-type"] == "image/jpeg"
    assert (arrived["status"], arrived["num_bytes"]) == (200, len(colourful(100)))
    assert json.loads(refused["headers"])["x-robots-tag"] == "noai"
    opt_out = json.loads(refused["opt_out"])
    assert (opt_out["where"], opt_out["value"], opt_out["source"]) == ("x-robots-tag", "noai", refused["url"])
    assert moved["final_url"] == arrived["url"]
    assert (missing["status"], missing["num_bytes"]) == (404, None)


def test_this_machine_is_out_of_reach_unless_that_is_allowed(tmp_path: Path, server: DemoServer) -> None:
    source = ranked(tmp_path, [server.base_url + path for path in usual_paths()[:2]])
    recipe = recipe_from(tmp_path, RECIPE.format(rows_per_part=100, num_threads=4))
    fetch(source, tmp_path / "fetch", recipe, ALONE, waiver=WAIVER)
    assert [row["reason"] for row in ledger(tmp_path / "fetch")] == ["blocked_address"] * 2
    assert not server.requests


def test_the_order_of_arrival_changes_no_byte(tmp_path: Path, server: DemoServer) -> None:
    urls = [server.base_url + path for path in usual_paths()]
    urls.insert(0, f"{server.base_url}/flaky/picture-00.jpg")
    source = ranked(tmp_path, urls, rows_per_part=9)
    run(source, tmp_path / "one" / "fetch", num_threads=1)
    run(source, tmp_path / "many" / "fetch", num_threads=16)
    assert len(bytes_of(tmp_path / "one" / "fetch")) == 7
    assert bytes_of(tmp_path / "one" / "fetch") == bytes_of(tmp_path / "many" / "fetch")


@pytest.mark.slow
def test_workers_change_no_byte(tmp_path: Path, server: DemoServer, ray_address: str) -> None:
    source = ranked(tmp_path, [server.base_url + path for path in usual_paths()], rows_per_part=12)
    run(source, tmp_path / "zero" / "fetch")
    run(source, tmp_path / "two" / "fetch", spread=Spread(2, ray_address))
    assert bytes_of(tmp_path / "zero" / "fetch") == bytes_of(tmp_path / "two" / "fetch")


def test_a_second_run_asks_only_for_what_is_not_committed(tmp_path: Path, server: DemoServer) -> None:
    source = ranked(tmp_path, [server.base_url + path for path in usual_paths()], rows_per_part=12)
    target = tmp_path / "fetch"
    run(source, target)
    before = bytes_of(target)
    (target / "manifest.json").unlink()
    (target / "00001_stats.json").unlink()
    (target / "00001.tar").write_bytes(b"half")
    server.requests.clear()
    run(source, target)
    assert sum(server.requests.values()) == 11
    assert bytes_of(target) == before
    assert not (target / "_tmp").exists()


def test_a_changed_part_is_refused_and_the_others_go_on(tmp_path: Path, server: DemoServer) -> None:
    source = ranked(tmp_path, [server.base_url + path for path in usual_paths()], rows_per_part=12)
    (source / "00000.parquet").write_bytes((source / "00001.parquet").read_bytes())
    outcomes: list[ShardReport | ShardFailure] = []
    recipe = recipe_from(tmp_path, RECIPE.format(rows_per_part=12, num_threads=4))
    manifest = fetch(source, tmp_path / "fetch", recipe, ALONE, outcomes.append, allow_loopback=True, waiver=WAIVER)
    assert "not the part that rank's manifest names" in manifest.failed["00000"]
    assert [report.shard for report in manifest.shards] == ["00001"]
    assert len(outcomes) == 2


def test_a_folder_that_rank_did_not_finish_is_refused(tmp_path: Path) -> None:
    recipe = recipe_from(tmp_path, RECIPE.format(rows_per_part=12, num_threads=4))
    with pytest.raises(UsageError, match="no manifest"):
        fetch(tmp_path, tmp_path / "fetch", recipe, ALONE)


def test_equal_inputs_leave_times_in_the_done_record_alone(tmp_path: Path, server: DemoServer) -> None:
    run(ranked(tmp_path, [server.base_url + usual_paths()[0]]), tmp_path / "fetch")
    stats = json.loads((tmp_path / "fetch" / "00000_stats.json").read_text())
    assert stats["run"]["seconds"] > 0
    assert "seconds" not in (tmp_path / "fetch" / "manifest.json").read_text()


def test_a_row_that_the_downloader_lost_is_said_to_be_lost() -> None:
    assert account(None, Answer()) == UrlOutcome(None, LOST)
    assert account(Arrival(None, None), Answer()) == UrlOutcome(None, LOST)


def test_bytes_that_changed_while_they_waited_fail_the_part(tmp_path: Path, server: DemoServer) -> None:
    urls = [server.base_url + usual_paths()[0]]
    with download(urls, tmp_path / "part", FetchSettings(), allow_loopback=True) as found:
        assert found.image_bytes(0) == colourful(100)
        bodies = tmp_path / "part" / "pass-0" / "bodies"
        bodies.write_bytes(bytes(1) + bodies.read_bytes()[1:])
        with pytest.raises(ShardError, match="bodies: what lies at byte 0 is not what arrived there"):
            found.image_bytes(0)
