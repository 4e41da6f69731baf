"""Reading one URL: every way in which a server can waste time, memory or trust ends soon, with its reason."""

import gzip
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from curation.commands.fetch.http import MAX_MESSAGE_CHARACTERS, Answer, is_opted_out, read_url
from curation.commands.fetch.opt_outs import OptOut
from curation.commands.fetch.politeness import NUM_SERVED, Hosts, interleaved, retry_after_s
from curation.dataset.urls import host_of
from curation.recipe.settings import FetchSettings
from tests.curation.commands.fetch.hostile import Connection, HostileServer, answer, hostile, ok

PICTURE = bytes(range(256)) * 8
BOMB = gzip.compress(bytes(50_000_000))
SETTINGS = FetchSettings(
    timeout_s=1.0, deadline_s=1.5, grace_s=0.3, min_bytes_per_s=500, max_bytes=100_000, max_redirects=5
)
SLACK_S = 15.0
"""What a busy machine may add to a deadline; a server that nobody gives up takes longer still."""


def sends(data: bytes) -> Callable[[Connection], None]:
    """A script that sends some bytes and closes."""
    return lambda connection: connection.send(data)


def moves_to(location: str, status: str = "302 Found") -> Callable[[Connection], None]:
    """A script that redirects."""
    return sends(answer(status, f"Location: {location}", "Content-Length: 0"))


def endless(connection: Connection) -> None:
    """Promise nothing and never stop."""
    connection.send(answer("200 OK"))
    while not connection.server.is_closing.is_set():
        connection.send(bytes(1 << 16))


def drips_body(connection: Connection) -> None:
    """A byte now and then, so that no read ever times out."""
    connection.send(answer("200 OK", "Content-Length: 1000"))
    connection.drip(b"x", 0.05)


def drips_header(connection: Connection) -> None:
    """The same before any header is whole."""
    connection.drip(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 1000, 0.05)


def short_chunks(connection: Connection) -> None:
    """A chunked body that ends before its last chunk."""
    connection.send(answer("200 OK", "Transfer-Encoding: chunked") + b"10\r\nonly half")


def thinks(connection: Connection) -> None:
    """A server that needs time before its first byte, but then is quick."""
    connection.wait(0.3)
    connection.send(ok(PICTURE))


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
GZIP = "Content-Encoding: gzip"
SCRIPTS: dict[str, tuple[Callable[[Connection], None], str | None]] = {
    "/picture": (sends(ok(PICTURE)), None),
    "/thinks": (thinks, None),
    "/no-length": (sends(answer("200 OK") + PICTURE), None),
    "/chunked": (sends(answer("200 OK", "Transfer-Encoding: chunked") + b"800\r\n" + PICTURE + b"\r\n0\r\n\r\n"), None),
    "/gzip": (sends(ok(gzip.compress(PICTURE), "Content-Encoding: gzip")), None),
    "/early-hints": (sends(HINTS + ok(PICTURE)), None),
    "/hints-twice": (sends(b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS + HINTS + ok(PICTURE)), None),
    "/hints-only": (sends(HINTS), "connection"),
    "/hints-without-end": (lambda connection: connection.drip(HINTS, 0.0), "bad_answer"),
    "/switching": (sends(answer("101 Switching Protocols", "Upgrade: h2c")), "http_101"),
    "/partial": (
        sends(answer("206 Partial Content", "Content-Length: 9", "Content-Range: bytes 0-8/99") + PICTURE[:9]),
        "partial_body",
    ),
    "/partial-unsaid": (sends(answer("206 Partial Content", "Content-Length: 9") + PICTURE[:9]), "partial_body"),
    "/range": (sends(ok(PICTURE[:9], "Content-Range: bytes 0-8/2048")), "partial_body"),
    "/delta": (sends(answer("226 IM Used", "Content-Length: 9") + PICTURE[:9]), "partial_body"),
    "/two-lengths": (sends(ok(PICTURE, "Content-Length: 100")), "bad_answer"),
    "/two-lengths-in-one": (sends(answer("200 OK", "Content-Length: 100, 2048") + PICTURE), "bad_answer"),
    "/one-length-twice": (sends(ok(PICTURE, "Content-Length: 2048")), None),
    "/no-number": (sends(answer("200 OK", "Content-Length: many") + PICTURE), "bad_answer"),
    "/endless-number": (sends(answer("200 OK", f"Content-Length: {'9' * 5000}") + PICTURE), "bad_answer"),
    "/negative": (sends(answer("200 OK", "Content-Length: -1") + PICTURE), "bad_answer"),
    "/chunks-and-length": (
        sends(
            answer("200 OK", "Transfer-Encoding: chunked", "Content-Length: 99")
            + b"9\r\n"
            + PICTURE[:9]
            + b"\r\n0\r\n\r\n"
        ),
        "truncated_body",
    ),
    "/two-codings": (sends(answer("200 OK", "Transfer-Encoding: gzip, chunked") + PICTURE), "bad_answer"),
    "/two-members": (sends(ok(gzip.compress(PICTURE[:99]) + gzip.compress(PICTURE[99:]), GZIP)), "bad_encoding"),
    "/member-and-rest": (sends(ok(gzip.compress(PICTURE) + b"rest", GZIP)), "bad_encoding"),
    "/padded-gzip": (sends(ok(gzip.compress(PICTURE) + bytes(9), GZIP)), None),
    "/deflate-and-rest": (sends(ok(zlib.compress(PICTURE) + b"rest", "Content-Encoding: deflate")), "bad_encoding"),
    "/gzip-twice": (sends(ok(gzip.compress(gzip.compress(PICTURE)), GZIP, GZIP)), "bad_encoding"),
    "/tdm": (sends(ok(PICTURE, "TDM-Reservation: 1")), "opted_out"),
    "/tdm-policy": (sends(ok(PICTURE, "tdm-reservation: 1; x=y")), "opted_out"),
    "/tdm-open": (sends(ok(PICTURE, "tdm-reservation: 0")), None),
    "/no-training": (sends(ok(PICTURE, "Content-Usage: search=y, train-ai=n")), "opted_out"),
    "/training": (sends(ok(PICTURE, "Content-Usage: train-ai=y, search=n")), None),
    "/second-tag": (sends(ok(PICTURE, "X-Robots-Tag: googlebot: noindex", "X-Robots-Tag: noml")), "opted_out"),
    "/moved": (moves_to("/picture"), None),
    "/moved-for-good": (moves_to("picture", "308 Permanent Redirect"), None),
    "/moved-five-times": (moves_to("/hop-1"), None),
    **{f"/hop-{n}": (moves_to(f"/hop-{n + 1}" if n < 4 else "/picture"), None) for n in range(1, 5)},
    "/moved-six-times": (moves_to("/moved-five-times"), "redirect_loop"),
    "/loop": (moves_to("/loop"), "redirect_loop"),
    "/ping": (moves_to("/pong"), "redirect_loop"),
    "/pong": (moves_to("/ping"), "redirect_loop"),
    "/nowhere": (sends(answer("302 Found")), "redirect_loop"),
    "/to-file": (moves_to("file:///etc/passwd"), "blocked_scheme"),
    "/to-private": (moves_to("http://10.0.0.1/"), "blocked_address"),
    "/silent": (lambda connection: connection.wait(60), "timeout"),
    "/endless": (endless, "too_many_bytes"),
    "/drips-body": (drips_body, "too_slow"),
    "/drips-header": (drips_header, "too_slow"),
    "/promises-much": (sends(ok(PICTURE, length=10**12)), "too_many_bytes"),
    "/too-large": (sends(answer("200 OK") + bytes(100_001)), "too_many_bytes"),
    "/bomb": (sends(ok(BOMB, "Content-Encoding: gzip")), "too_many_bytes"),
    "/brotli": (sends(ok(PICTURE, "Content-Encoding: br")), "bad_encoding"),
    "/false-gzip": (sends(ok(PICTURE, "Content-Encoding: gzip")), "bad_encoding"),
    "/cut-gzip": (sends(ok(gzip.compress(PICTURE)[:-20], "Content-Encoding: gzip")), "truncated_body"),
    "/short": (sends(ok(PICTURE[:100], length=2048)), "truncated_body"),
    "/short-chunks": (short_chunks, "truncated_body"),
    "/empty": (sends(ok(b"")), "empty_body"),
    "/no-content": (sends(answer("204 No Content")), "empty_body"),
    "/opted-out": (sends(ok(PICTURE, "X-Robots-Tag: noai")), "opted_out"),
    "/opted-out-moved": (sends(answer("302 Found", "Location: /picture", "X-Robots-Tag: noindex")), "opted_out"),
    "/missing": (sends(answer("404 Not Found")), "http_404"),
    "/gone": (sends(answer("410 Gone")), "http_410"),
    "/broken": (sends(answer("500 Oops")), "http_5xx"),
    "/hangs-up": (lambda connection: None, "connection"),
    "/babbles": (sends(b"\x00\x01\x02 what?\r\n\r\n"), "bad_answer"),
    "/header-flood": (sends(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000), "bad_answer"),
    "/long-header": (sends(b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 200_000), "bad_answer"),
}


@pytest.fixture(scope="module")
def server() -> Any:
    with hostile({path: script for path, (script, _) in SCRIPTS.items()}) as running:
        yield running


def read(url: str, settings: FetchSettings = SETTINGS, hosts: Hosts | None = None) -> Answer:
    """Read a URL of this machine."""
    return read_url(url, settings, hosts or Hosts(4, settings.timeout_s), allow_loopback=True)


@pytest.mark.parametrize("path", SCRIPTS)
def test_every_answer_ends_in_time_with_a_body_or_its_reason(path: str, server: HostileServer) -> None:
    started = time.monotonic()
    seen = read(server.url(path))
    assert time.monotonic() - started < SETTINGS.deadline_s + SLACK_S
    assert seen.reason == SCRIPTS[path][1], seen
    assert len(seen.message or "") <= MAX_MESSAGE_CHARACTERS
    assert seen.body == (PICTURE if seen.reason is None else None)


def test_a_deadline_holds_over_redirects_and_a_steady_trickle(server: HostileServer) -> None:
    patient = SETTINGS.model_copy(update={"min_bytes_per_s": 0.0, "timeout_s": 30.0})
    started = time.monotonic()
    assert read(server.url("/drips-body"), patient).reason == "timeout"
    assert read(server.url("/drips-header"), patient).reason == "timeout"
    assert time.monotonic() - started < 2 * (SETTINGS.deadline_s + SLACK_S)


def test_what_never_ends_costs_no_more_memory_than_the_limit(server: HostileServer) -> None:
    tracemalloc.start()
    try:
        for path in ("/endless", "/bomb", "/promises-much"):
            read(server.url(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * SETTINGS.max_bytes


def test_the_evidence_is_kept_and_where_a_redirect_led(server: HostileServer) -> None:
    refused = read(server.url("/opted-out"))
    assert (refused.status, refused.headers["x-robots-tag"]) == (200, "noai")
    moved = read(server.url("/moved"))
    assert (moved.final_url, moved.status) == (server.url("/picture"), 200)
    assert read(server.url("/picture")).final_url is None
    assert read(server.url("/to-file")).final_url == "file:///etc/passwd"


def test_a_request_names_us_asks_for_plain_bytes_and_carries_no_credentials(server: HostileServer) -> None:
    read(server.url("/picture").replace("127.0.0.1", "user:secret@127.0.0.1"))
    request = server.requests[-1]
    assert "Accept-Encoding: identity" in request
    assert "compatible; facecaptionhq" in request
    assert "secret" not in request
    assert "Authorization" not in request


def test_urls_are_written_as_a_browser_would() -> None:
    with hostile({"/caf%C3%A9%20a.jpg": sends(ok(PICTURE)), "/a%0d%0ab": sends(ok(PICTURE))}) as server:
        assert read(server.url("/café a.jpg?q=ä")).body == PICTURE
        assert server.requests[0].startswith("GET /caf%C3%A9%20a.jpg?q=%C3%A4 HTTP/1.1")
        assert read(server.url("/a%0d%0ab")).body == PICTURE


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://[::1/",
        "http://h:99999/",
        "http://h:x/",
        f"http://{'a' * 64}.org/",
        "http://a..b/",
        "http://\x00/",
    ],
)
def test_a_broken_url_is_named_so(url: str) -> None:
    assert read(url).reason == "bad_url"


def test_a_host_sees_no_more_connections_than_allowed() -> None:
    lock, waiting, most_waiting, all_that_may = threading.Lock(), 0, 0, threading.Event()
    patient = SETTINGS.model_copy(update={"timeout_s": 60.0, "deadline_s": 60.0})

    def slow(connection: Connection) -> None:
        nonlocal waiting, most_waiting
        with lock:
            waiting += 1
            most_waiting = max(most_waiting, waiting)
            if waiting == 3:
                all_that_may.set()
        all_that_may.wait(30)
        connection.wait(0.05)  # room for one too many
        with lock:  # before the client can know that it may go
            waiting -= 1
        connection.send(ok(PICTURE))

    with hostile({"/": slow}) as server:
        hosts = Hosts(3, patient.timeout_s)
        threads = [threading.Thread(target=read, args=(server.url("/"), patient, hosts)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.requests) == 12
        assert most_waiting == 3


def test_a_host_that_asks_for_silence_gets_it() -> None:
    settings = SETTINGS.model_copy(update={"retry_wait_s": 0.2, "max_retry_after_s": 30.0})
    busy = {"/busy": sends(answer("503 Busy", "Retry-After: 20")), "/often": sends(answer("429 Too Many"))}
    with hostile(busy) as server:
        hosts = Hosts(4, settings.timeout_s)
        assert read(server.url("/often"), settings, hosts).reason == "http_429"
        read(server.url("/often"), settings, hosts)
        assert server.times[1] - server.times[0] >= 0.2
        time.sleep(0.2)
        assert read(server.url("/busy"), settings, hosts).reason == "http_5xx"
        assert read(server.url("/busy"), settings, hosts).reason == "host_backoff"
        assert len(server.requests) == 3
        assert 15 < hosts.silence_s("127.0.0.1") <= 20


def test_a_slowed_host_is_asked_one_by_one_until_it_has_served_long_enough() -> None:
    hosts = Hosts(2, 60.0)

    def another() -> threading.Thread:
        def ask() -> None:
            with hosts.visit("h"):
                pass

        thread = threading.Thread(target=ask)
        thread.start()
        return thread

    hosts.back_off("h", 0.0)
    with hosts.visit("h"):
        waiting = another()
        waiting.join(0.1)
        assert waiting.is_alive()
    waiting.join()
    for _ in range(NUM_SERVED):
        hosts.served("h")
    with hosts.visit("h"):
        another().join()


def test_a_host_that_asks_for_silence_gets_it_under_every_name_it_is_spelled_by() -> None:
    settings = SETTINGS.model_copy(update={"max_retry_after_s": 30.0})
    with hostile({"/": sends(answer("429 Too Many", "Retry-After: 20"))}) as server:
        hosts, place = Hosts(4, settings.timeout_s), f":{server.port}/"
        assert read(f"http://\uff2cOCALHOST{place}", settings, hosts).reason == "http_429"
        assert read(f"http://localhost{place}", settings, hosts).reason == "host_backoff"
        assert read(f"http://LocalHost.{place}", settings, hosts).reason == "host_backoff"
        assert hosts.silence_s(host_of(f"http://\uff4cocalhost{place}")) > 15


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), (" 7 ", 7.0), ("9999", 60.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None), (None, None)],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text, 60.0) == seconds


@pytest.mark.parametrize(
    ("header", "forbids"),
    [
        ("noai", True),
        ("NoIndex, nofollow", True),
        ("all, noimageai", True),
        ("facecaptionhq: noindex", True),
        ("googlebot: noindex", False),
        ("googlebot: nofollow, noindex", False),
        ("googlebot: nofollow, facecaptionhq: noai", True),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST, noai", True),
        ("none", True),
        ("NONE", True),
        ("noml", True),
        ("*: noai", True),
        ("noarchive; noai", True),
        ("noarchive noai", True),
        ("img2dataset: noai", True),
        ("Img2Dataset : NoIndex", True),
        ("FaceCaptionHQ/1.0: noai", True),
        ("googlebot: noindex; *: noai", True),
        ("googlebot: none", False),
        ("unavailable_after: Wednesday, 25-Jun-30 15:00:00 PST, noai", True),
        ("max-snippet: 0, noimageindex", True),
        ("noarchive, nosnippet", False),
        ("nofollow", False),
        ("", False),
        (":,:", False),
    ],
)
def test_an_opt_out_counts_for_all_agents_or_for_ours(header: str, forbids: bool) -> None:
    assert is_opted_out([header], FetchSettings()) is forbids


def test_usage_preferences_are_heeded_in_the_version_that_the_recipe_names(server: HostileServer) -> None:
    assert read(server.url("/no-training"), SETTINGS.model_copy(update={"content_usage": "off"})).reason is None
    refused = read(server.url("/no-training"))
    assert refused.opt_out == OptOut("content-usage", "search=y, train-ai=n", server.url("/no-training"))


def test_bodies_that_wait_for_their_turn_lie_on_disk() -> None:
    large = SETTINGS.model_copy(update={"max_bytes": 64 << 20, "timeout_s": 60.0, "deadline_s": 60.0})
    body = bytes(8 << 20)
    with hostile({"/": sends(ok(body))}) as server:
        tracemalloc.start()
        try:
            answers = [read(server.url("/"), large) for _ in range(8)]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 3 * len(body)
    assert [seen.body == body for seen in answers] == [True] * 8
    for seen in answers:
        assert seen.stream is not None
        seen.stream.close()


def test_rows_of_one_host_lie_far_apart() -> None:
    assert interleaved(["a", "a", "a", "b", "b", "c"]) == [0, 3, 5, 1, 4, 2]
