"""Asking again what a finished fetch could not get, against a server that heals; the rest of the run follows."""

from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.commands.fetch.again import PASSING, num_asked_again, reasons_of
from curation.commands.fetch.stage import fetch
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.stage import pack
from curation.commands.rank.stage import rank
from curation.commands.verify.check import verify
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest, read_manifest
from curation.dataset.tar import read_samples
from curation.errors import UsageError
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from demo.server import serve
from tests.curation.shards import colourful, recipe_from
from tests.curation.whole_run import write_metadata

RECIPE = """
schema_version = 1
name = "again"
[rank]
rows_per_part = 4
[fetch]
timeout_s = 5
num_retries = 0
retry_wait_s = 0
[curate]
isolate = false
[[filters]]
name = "colour"
"""
ALONE = Spread(num_workers=0)
WAIVER = "the test drew every picture itself"


def asked(run: Path, recipe: Recipe, again: frozenset[str] | None = None) -> Manifest:
    return fetch(run / "rank", run / "fetch", recipe, ALONE, allow_loopback=True, waiver=WAIVER, again=again)


def rows_of(folder: Path) -> list[tuple[str, str, str | None]]:
    manifest = read_manifest(folder)
    return [
        (report.shard, row["url"], row["reason"])
        for report in manifest.shards
        for row in read_ledger(report.file(folder, ".parquet")).to_pylist()
    ]


def samples_of(folder: Path) -> dict[str, tuple[object, ...]]:
    tars = [report.file(folder, ".tar") for report in read_manifest(folder).shards]
    samples = [sample for tar in tars for sample in read_samples(tar)]
    assert len({sample.key for sample in samples}) == len(samples)
    return {sample.key: (sample.image_bytes, sample.metadata, sample.caption) for sample in samples}


def packed(run: Path, recipe: Recipe, name: str) -> dict[str, bytes]:
    curate(run / "fetch", run / "curate", recipe, ALONE)
    pack(run / "curate", run / name, recipe, ALONE)
    return {path.name: path.read_bytes() for path in (run / name).glob("*.tar")}


@pytest.mark.slow
def test_what_a_server_that_healed_could_not_give_arrives_once_and_the_run_is_that_of_a_fetch_that_succeeded_at_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "pictures").mkdir()
    for seed in range(10):
        (tmp_path / "pictures" / f"p-{seed}.jpg").write_bytes(colourful(seed))
    recipe, run, other = recipe_from(tmp_path, RECIPE), tmp_path / "run", tmp_path / "other"
    with serve(tmp_path / "pictures") as server:
        routes = ["images", "flaky", "flaky", "missing", "images", "broken", "flaky", "images", "images", "flaky"]
        urls = [f"{server.base_url}/{route}/p-{number}.jpg" for number, route in enumerate(routes)]
        tables = write_metadata(tmp_path, 10, urls)
        for place in (run, other):
            rank(*tables, place / "rank", recipe)
        with pytest.raises(UsageError, match="no such folder"):
            asked(run, recipe, PASSING)
        assert asked(run, recipe).num_kept == 4
        packed(run, recipe, "pack")
        done = {path.name: path.read_bytes() for path in (run / "curate").glob("*_stats.json")}
        forget(run, read_requests([urls[9]], "the test"))
        before = server.requests.copy()
        manifest = asked(run, recipe, PASSING)
        requests = server.requests - before
        assert sorted(requests) == [f"/broken/{urls[5][-7:]}", *(f"/flaky/{urls[i][-7:]}" for i in (1, 2, 6))]
        assert (manifest.num_seen, manifest.num_kept, num_asked_again(manifest)) == (14, 7, 4)
        first, again = rows_of(run / "fetch")[:10], rows_of(run / "fetch")[10:]
        failed = [(url, reason) for _, url, reason in first if reason == "http_5xx"]
        assert failed == [(urls[number], "http_5xx") for number in (1, 2, 5, 6)]
        assert again == [("00003", url, reason if url == urls[5] else None) for url, reason in failed]
        tars = packed(run, recipe, "pack-2")
        del done["00002_stats.json"]  # of the shard that the forgotten picture lay in
        assert {name: (run / "curate" / name).read_bytes() for name in done} == done
        assert verify(run, ALONE).faults == ()
        assert asked(run, recipe).state == manifest.state  # a plain fetch keeps the generation
        asked(run, recipe, frozenset({"http_5xx"}))
        assert [row for row in rows_of(run / "fetch") if row[0] == "00004"] == [("00004", urls[5], "http_5xx")]
        assert verify(run / "fetch", ALONE).faults == ()
        forget(other, read_requests([urls[9]], "the test"))
        asked(other, recipe)
        assert samples_of(other / "fetch") == samples_of(run / "fetch")
        assert packed(other, recipe, "pack") == tars


def test_only_reasons_that_pass_with_time_may_be_asked_again_for() -> None:
    assert reasons_of(["http_5xx,dns", "timeout"]) == {"http_5xx", "dns", "timeout"}
    assert reasons_of([]) == PASSING
    for wrong in ("opted_out", "withheld", "http_404", "blocked_domain", "http_5x"):
        with pytest.raises(UsageError, match="not a reason that passes with time"):
            reasons_of([wrong])
