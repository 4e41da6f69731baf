"""No redirect leads to what a blocklist names or to what was forgotten: it is not even asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.commands.fetch.stage import fetch
from curation.commands.plan.forecast import plan
from curation.commands.rank.stage import Safeguards, rank
from curation.dataset.ledger import read_ledger
from curation.dataset.tombstones import Tombstones, hashed, write_tombstones
from curation.dataset.urls import address_of
from curation.errors import ShardError
from tests.curation.commands.fetch.hostile import HostileServer, hostile, ok
from tests.curation.commands.fetch.test_download import ABSENT
from tests.curation.commands.fetch.test_http import moves_to, sends
from tests.curation.shards import colourful, recipe_from
from tests.curation.whole_run import ALONE, WAIVER, write_metadata

RECIPE = """
schema_version = 1
name = "blocked"
[fetch]
timeout_s = 5
num_retries = 0
[[filters]]
name = "colour"
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    pictures = {f"/served/%3{number}.jpg": sends(ok(colourful(number))) for number in range(3)}
    moves = {f"/moved/{number}": moves_to(f"/served/%3{number}.jpg") for number in range(3)}
    with hostile(
        {"/robots.txt": ABSENT} | pictures | moves | {"/away": moves_to("http://img.other.example./x")}
    ) as running:
        yield running


def test_no_hop_leads_to_what_a_list_or_a_tombstone_names(tmp_path: Path, server: HostileServer) -> None:
    recipe, run = recipe_from(tmp_path / "in", RECIPE), tmp_path / "run"
    urls = [server.url(path) for path in ("/moved/0", "/moved/1", "/moved/2", "/away")]
    (tmp_path / "list.txt").write_text(f"{server.url('/served/./0.jpg')}\nother.example\n")
    metadata = write_metadata(tmp_path / "in", len(urls), urls)
    rank(*metadata, run / "rank", recipe, Safeguards(blocklists=[tmp_path / "list.txt"]))
    write_tombstones(run, Tombstones(address=frozenset({hashed(str(address_of(server.url("/served/1.jpg"))))})))
    fetch(run / "rank", run / "fetch", recipe, ALONE, waiver=WAIVER, allow_loopback=True)
    rows = {row["url"]: row for row in read_ledger(run / "fetch" / "00000.parquet").to_pylist()}
    assert (rows[urls[0]]["reason"], rows[urls[3]]["reason"]) == ("blocked_url", "blocked_domain")
    assert rows[urls[2]]["kept"] and rows[urls[2]]["final_url"] == server.url("/served/%32.jpg")
    assert urls[1] not in rows and rows[None]["reason"] == "forgotten"
    asked = {request.split()[1] for request in server.requests}
    assert "/served/%32.jpg" in asked and not asked & {"/served/%30.jpg", "/served/%31.jpg"}


def test_a_selection_whose_blocklists_were_changed_is_not_fetched(tmp_path: Path, server: HostileServer) -> None:
    recipe = recipe_from(tmp_path / "in", RECIPE)
    (tmp_path / "list.txt").write_text("a.example\n")
    metadata = write_metadata(tmp_path / "in", 1, [server.url("/served/0.jpg")])
    rank(*metadata, tmp_path / "rank", recipe, Safeguards(blocklists=[tmp_path / "list.txt"]))
    (tmp_path / "rank" / "blocked.parquet").unlink()
    manifest = fetch(tmp_path / "rank", tmp_path / "fetch", recipe, ALONE, waiver=WAIVER, allow_loopback=True)
    assert "blocklists" in manifest.failed["00000"]
    with pytest.raises(ShardError, match="blocklists"):
        plan(tmp_path / "rank", recipe, ALONE, waiver=WAIVER, allow_loopback=True)
    assert server.requests == []
