"""The two engines: whatever a web does, they give one outcome, reason and bytes, and one ends what the other began."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from curation.commands.fetch.bodies import Bodies
from curation.commands.fetch.direct import directly
from curation.commands.fetch.download import download
from curation.commands.fetch.work import fetch_work
from curation.recipe.settings import FetchSettings
from tests.curation.commands.fetch.hostile import Connection, HostileServer, Script, answer, hostile, ok, stays
from tests.curation.commands.fetch.test_stage import ranked
from tests.curation.shards import bytes_of, colourful, recipe_from

ENGINES = ("direct", "img2dataset")
SETTINGS = FetchSettings(
    timeout_s=0.5, deadline_s=2.0, grace_s=0.2, min_bytes_per_s=500, max_bytes=100_000, num_retries=1,
    retry_wait_s=0.01, max_retry_after_s=0.5, num_threads=8,
)  # fmt: skip
FORGED = stays(b"forged")


def body(connection: Connection) -> bytes:
    """What a path gives: bytes of its own, more than one read may take."""
    return connection.request.split(" ")[1].encode() * 3000


def trails_late(connection: Connection) -> None:
    """A response that nobody asked for, when the connection may be in use again."""
    connection.send(stays(body(connection)))
    connection.wait(0.03)
    connection.send(FORGED)


def leaves(connection: Connection) -> None:
    """Hang up without a word about it."""
    connection.send(stays(body(connection)))
    raise OSError


def hangs_up(_: Connection) -> None:
    """Say nothing and go."""
    raise OSError


def falls_short(connection: Connection) -> None:
    """Promise more than comes."""
    connection.send(ok(b"half", length=8))
    raise OSError


def drips(connection: Connection) -> None:
    """A byte now and then."""
    connection.send(answer("200 OK", "Content-Length: 1000"))
    connection.drip(b"x", 0.05)


def chunks(connection: Connection) -> None:
    """A body of two chunks."""
    sent = body(connection)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.send(head + b"%x\r\n%s\r\n" % (len(sent), sent) + b"1\r\nx\r\n0\r\n\r\n")


ROUTES: Mapping[str, Script] = {
    "ok": lambda connection: connection.send(stays(body(connection))),
    "closes": lambda connection: connection.send(ok(body(connection))),
    "leaves": leaves,
    "chunks": chunks,
    "trails": lambda connection: connection.send(stays(body(connection)) + FORGED),
    "trails_late": trails_late,
    "missing": lambda connection: connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"),
    "broken": lambda connection: connection.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
    "moved": lambda connection: connection.send(b"HTTP/1.1 302 Found\r\nLocation: /ok/0\r\nContent-Length: 0\r\n\r\n"),
    "refused": lambda connection: connection.send(stays(body(connection), "X-Robots-Tag: noai")),
    "large": lambda connection: connection.send(stays(bytes(100_001))),
    "short": falls_short,
    "hangs_up": hangs_up,
    "drips": drips,
}
REASONS = {
    "missing": "http_404", "broken": "http_5xx", "refused": "opted_out", "large": "too_many_bytes",
    "short": "truncated_body", "hangs_up": "connection", "drips": "too_slow",
}  # fmt: skip
"""Of the routes on which nothing arrives."""


def outcomes_of(engine: str, server: HostileServer, paths: list[str], folder: Path) -> list[tuple[Any, ...]]:
    """Download all paths, and return all that is known of each."""
    settings = SETTINGS.model_copy(update={"engine": engine})
    with download([server.url(path) for path in paths], folder, settings, allow_loopback=True) as downloads:
        return [
            (one.sha256, one.reason, one.status, dict(one.headers), one.final_url, one.opt_out)
            for one in downloads.outcomes
        ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_both_engines_say_the_same_of_every_url_of_a_hostile_web(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    routes = [*ROUTES, *chance.choices(list(ROUTES), k=40), *["ok"] * 20]
    chance.shuffle(routes)
    paths = ["/ok/0", *(f"/{route}/{number}" for number, route in enumerate(routes, 1))]
    scripts = {"/robots.txt": ROUTES["missing"], **{path: ROUTES[path.split("/")[1]] for path in paths}}
    with hostile(scripts, keeps=True) as server:
        seen = [outcomes_of(engine, server, paths, tmp_path / engine) for engine in ENGINES]
        assert seen[0] == seen[1]
    for path, (sha256, reason, *_) in zip(paths, seen[0], strict=True):
        route = path.split("/")[1]
        assert reason == REASONS.get(route), path
        own = path if route != "moved" else "/ok/0"
        sent = own.encode() * 3000 + (b"x" if route == "chunks" else b"")
        assert sha256 == (None if reason else hashlib.sha256(sent).hexdigest()), path


@pytest.mark.parametrize("engine", ENGINES)
def test_a_response_that_comes_late_and_unasked_is_nobodys_picture(tmp_path: Path, engine: str) -> None:
    paths = [f"/trails_late/{n}" if n % 5 == 0 else f"/ok/{n}" for n in range(40)]
    scripts = {"/robots.txt": ROUTES["missing"], **{path: ROUTES[path.split("/")[1]] for path in paths}}
    with hostile(scripts, keeps=True) as server:
        seen = outcomes_of(engine, server, paths, tmp_path / "part")
    assert [sha256 for sha256, *_ in seen] == [hashlib.sha256(path.encode() * 3000).hexdigest() for path in paths]


RECIPE = """
schema_version = 1
name = "engines"
[rank]
rows_per_part = 10
[fetch]
engine = "{engine}"
timeout_s = 5
retry_wait_s = 0
num_threads = 4
[[filters]]
name = "colour"
"""
WAIVER = "the test drew every picture itself"


@pytest.mark.slow
@pytest.mark.parametrize("then", ENGINES)
def test_what_was_killed_under_the_direct_engine_ends_with_the_bytes_of_a_whole_run_under_either(
    tmp_path: Path, then: str
) -> None:
    dead = threading.Event()

    def picture(number: int) -> Script:
        def gives(connection: Connection) -> None:
            assert number < 30 or dead.wait(120)  # the last shard has to wait until a run was killed
            connection.send(ok(colourful(number), "Content-Type: image/jpeg"))

        return gives

    scripts = {f"/{number}.jpg": picture(number) for number in range(40)}

    def started(target: str, engine: str) -> "subprocess.Popen[bytes]":
        (tmp_path / f"{engine}.toml").write_text(RECIPE.format(engine=engine))
        words = [str(source), str(tmp_path / target), "--recipe", str(tmp_path / f"{engine}.toml"), "--workers", "0"]
        program = [sys.executable, "-m", "cli", "fetch", *words, "--waiver", WAIVER, "--allow-loopback"]
        return subprocess.Popen(program, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    with hostile({"/robots.txt": ROUTES["missing"], **scripts}) as server:
        source = ranked(tmp_path, [server.url(path) for path in scripts], 10)
        killed = started("killed", "direct")
        deadline = time.monotonic() + 120
        while not list((tmp_path / "killed").glob("*_stats.json")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(killed.pid, signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        dead.set()
        assert 1 <= len(list((tmp_path / "killed").glob("*_stats.json"))) < 4
        assert started("killed", then).wait() == 0
        assert started("whole", "direct").wait() == 0
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")


def test_which_engine_downloads_is_no_part_of_what_a_folder_is(tmp_path: Path) -> None:
    recipes = [recipe_from(tmp_path, RECIPE.format(engine=engine)) for engine in ENGINES]
    works = {fetch_work("selection", recipe.file.fetch, recipe.file.decode, {}) for recipe in recipes}
    assert len(works) == 1


def test_an_index_error_of_whoever_asks_is_told_and_not_taken_for_the_end_of_the_urls(tmp_path: Path) -> None:
    def ask(place: int, url: str) -> Any:
        raise IndexError(url)

    with pytest.raises(IndexError, match="http"):
        directly(["http://a.org/1", "http://a.org/2"], Bodies(tmp_path / "bodies"), tmp_path, FetchSettings(), ask)
