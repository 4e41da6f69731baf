"""Kept connections: used again only where that is safe, and nothing that a host sends passes for another answer."""

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from curation.commands.fetch import kept as kept_module
from curation.commands.fetch.http import Answer, read_url
from curation.commands.fetch.kept import Kept
from curation.commands.fetch.politeness import Hosts
from curation.recipe.settings import FetchSettings
from tests.curation.commands.fetch.hostile import Connection, Script, answer, hostile, ok, stays

PICTURE, OTHER = bytes(range(256)) * 8, b"another picture" * 99
FORGED = stays(b"forged")
SETTINGS = FetchSettings(timeout_s=1.0, deadline_s=2.0, num_host_connections=4)


def sends(data: bytes) -> Script:
    """A script that sends some bytes."""
    return lambda connection: connection.send(data)


def hangs_up_after(data: bytes) -> Script:
    """A script that sends some bytes and closes, without a word about it."""

    def script(connection: Connection) -> None:
        connection.send(data)
        raise OSError

    return script


@pytest.fixture
def kept() -> Iterator[Kept]:
    keeping = Kept(8)
    yield keeping
    keeping.close()


def reader(kept: Kept, settings: FetchSettings = SETTINGS) -> Callable[[str], Answer]:
    """Return what reads a URL of this machine with kept connections."""
    hosts = Hosts(settings.num_host_connections, settings.timeout_s)
    return lambda url: read_url(url, settings, hosts, allow_loopback=True, kept=kept)


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "num_connections"),
    [
        (stays(PICTURE), 1),
        (stays(PICTURE, "Connection: keep-alive"), 1),
        (NOT_FOUND, 1),
        (b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n", 1),
        (stays(PICTURE, "Connection: keep-alive, Close"), 2),
        (stays(PICTURE, "Content-Length: 2048"), 2),
        (stays(PICTURE, "X-Robots-Tag: noai"), 2),
        (CHUNKED, 1),
        (CHUNKED.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), 2),
        (CHUNKED.replace(b"\r\n", b"\r\nContent-Length: 4\r\n", 1), 2),
        (CHUNKED + b"rest", 2),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 70000\r\n\r\n" + bytes(70_000), 2),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 2),
        (stays(PICTURE).replace(b"1.1", b"1.0", 1), 2),
        (stays(PICTURE) + b"rest", 2),
    ],
)
def test_a_connection_is_used_again_only_where_one_length_says_where_its_response_ends(
    kept: Kept, first: bytes, num_connections: int
) -> None:
    read = reader(kept)
    with hostile({"/a": sends(first), "/b": sends(stays(OTHER))}, keeps=True) as server:
        read(server.url("/a"))
        assert read(server.url("/b")).body == OTHER
        assert len(server.times) == num_connections
        kept.close()


def test_a_connection_is_used_for_its_own_scheme_host_and_port_alone(kept: Kept) -> None:
    read = reader(kept)
    script = {"/": sends(stays(PICTURE))}
    with hostile(script, keeps=True) as server, hostile(script, keeps=True) as other:
        for url in (server.url("/"), other.url("/"), server.url("/").replace("127.0.0.1", "localhost")):
            assert read(url).body == PICTURE
        assert (len(server.times), len(other.times)) == (2, 1)
        kept.close()


@pytest.mark.parametrize("with_word", [True, False])
def test_a_connection_that_the_other_side_closed_costs_nobody_an_attempt(kept: Kept, with_word: bool) -> None:
    read = reader(kept)
    scripts = {"/a": hangs_up_after(stays(PICTURE)), "/b": sends(stays(OTHER))}
    if with_word:
        scripts["/a"] = hangs_up_after(ok(PICTURE))
    with hostile(scripts, keeps=True) as server:
        assert read(server.url("/a")).body == PICTURE
        assert read(server.url("/b")).body == OTHER
        assert [request.split(" ")[1] for request in server.requests] == ["/a", "/b"]
        kept.close()


def test_a_connection_that_closes_on_the_next_request_is_replaced_once_and_only_once(kept: Kept) -> None:
    read = reader(kept)

    def hangs_up(_: Connection) -> None:
        raise OSError

    with hostile({"/a": sends(stays(PICTURE)), "/b": hangs_up}, keeps=True) as server:
        assert read(server.url("/a")).body == PICTURE
        assert read(server.url("/b")).reason == "connection"
        assert [request.split(" ")[1] for request in server.requests] == ["/a", "/b", "/b"]
        kept.close()


TRAILING = {"a response": FORGED, "the rest of a body": b"\xff\xd9 more of it", "a line": b"\r\n"}


@pytest.mark.parametrize("name", TRAILING)
@pytest.mark.parametrize("after_s", [0.0, 0.05])
@pytest.mark.parametrize("first", [stays(PICTURE), CHUNKED], ids=["length", "chunks"])
def test_what_follows_a_response_is_never_taken_for_the_next_one(
    kept: Kept, name: str, after_s: float, first: bytes
) -> None:
    read = reader(kept)

    def trails(connection: Connection) -> None:
        if after_s == 0:
            return connection.send(first + TRAILING[name])
        connection.send(first)
        connection.wait(after_s)
        return connection.send(TRAILING[name])

    with hostile({"/a": trails, "/b": sends(stays(OTHER))}, keeps=True) as server:
        assert read(server.url("/a")).body in (PICTURE, b"abcd")
        time.sleep(2 * after_s)
        assert read(server.url("/b")).body == OTHER
        assert len(server.times) == 2
        kept.close()


def test_a_kept_connection_that_answers_twice_is_not_believed(kept: Kept) -> None:
    read = reader(kept)
    numbers = iter(range(9))

    def twice_at_first(connection: Connection) -> None:
        connection.send(FORGED + stays(OTHER) if next(numbers) == 0 else stays(OTHER))

    with hostile({"/a": sends(stays(PICTURE)), "/b": twice_at_first}, keeps=True) as server:
        assert read(server.url("/a")).body == PICTURE
        assert read(server.url("/b")).body == OTHER
        assert kept.noisy == {"127.0.0.1"}
        kept.close()


@pytest.mark.parametrize("head", ["X-Robots-Tag: noai", "Connection: close"])
def test_an_answer_after_which_a_kept_connection_ends_is_asked_for_on_a_new_one(kept: Kept, head: str) -> None:
    read = reader(kept)
    with hostile({"/a": sends(stays(PICTURE)), "/b": sends(stays(OTHER, head))}, keeps=True) as server:
        read(server.url("/a"))
        assert read(server.url("/b")).reason == ("opted_out" if "noai" in head else None)
        assert [request.split(" ")[1] for request in server.requests] == ["/a", "/b", "/b"]
        assert not kept.noisy
        kept.close()


def test_the_connections_of_a_noisy_host_are_not_kept(kept: Kept) -> None:
    read = reader(kept)
    kept.noisy.add("127.0.0.1")
    with hostile({"/": sends(stays(PICTURE))}, keeps=True) as server:
        assert [read(server.url("/")).body for _ in range(3)] == [PICTURE] * 3
        assert len(server.times) == 3


def test_idle_connections_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "SETTLED_S", 0.0)
    one = Kept(1)
    read = reader(one)
    with hostile({"/": sends(stays(PICTURE))}, keeps=True) as server:
        urls = [server.url("/").replace("127.0.0.1", name) for name in ("127.0.0.1", "localhost", "localhost")]
        for url in urls:
            assert read(url).body == PICTURE
        assert (len(one._idle), len(server.times)) == (1, 2)
        assert read(urls[0]).body == PICTURE
        assert len(server.times) == 3
        one.close()
        assert not one._idle


def test_an_idle_connection_is_not_used_when_it_is_old(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reader(kept)
    with hostile({"/": sends(stays(PICTURE))}, keeps=True) as server:
        for _ in range(2):
            assert read(server.url("/")).body == PICTURE
        assert len(server.times) == 1
        monkeypatch.setattr(kept_module, "IDLE_S", 0.0)
        assert read(server.url("/")).body == PICTURE
        assert len(server.times) == 2
        kept.close()


def test_a_name_is_resolved_once_for_a_while_and_what_connects_is_checked_each_time(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    hosts = Hosts(4, 1.0)
    with hostile({"/": sends(ok(PICTURE))}) as server:
        url = f"http://pictures.example.org:{server.port}/"
        for _ in range(3):
            assert read_url(url, SETTINGS, hosts, allow_loopback=True, kept=kept).body == PICTURE
        assert asked == ["pictures.example.org"]
        assert read_url(url, SETTINGS, hosts, kept=kept).reason == "blocked_address"
        assert len(server.times) == 3


def test_a_host_sees_no_more_open_connections_than_it_may_have_requests(kept: Kept) -> None:
    settings = SETTINGS.model_copy(update={"num_host_connections": 1})
    read, script = reader(kept, settings), {"/": sends(stays(PICTURE))}
    with hostile(script, keeps=True) as one, hostile(script, keeps=True) as other:
        for _ in range(3):
            assert [read(server.url("/")).body for server in (one, other)] == [PICTURE] * 2
            assert len(kept._idle) == 1
        kept.close()


def test_a_body_that_nobody_wants_is_not_waited_for(kept: Kept) -> None:
    read = reader(kept)

    def promises(connection: Connection) -> None:
        connection.send(answer("404 Not Found", "Content-Length: 50").replace(b"Connection: close\r\n", b""))
        connection.wait(30)

    with hostile({"/a": promises, "/b": sends(stays(OTHER))}, keeps=True) as server:
        started = time.monotonic()
        assert read(server.url("/a")).reason == "http_404"
        assert time.monotonic() - started < 10
        assert read(server.url("/b")).body == OTHER
        kept.close()
