"""A part and its hosts: nobody is lost because a neighbour is refused, and neither the dead nor the slow hold it up."""

import resource
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from curation.commands.fetch.download import UrlOutcome, download
from curation.commands.fetch.politeness import MAX_REFUSALS, NUM_FAILURES
from curation.recipe.settings import FetchSettings
from tests.curation.commands.fetch.hostile import Connection, HostileServer, Script, answer, hostile, ok

PICTURE = bytes(range(256)) * 8
ENGINES = ("direct", "img2dataset")
ABSENT: Script = lambda connection: connection.send(answer("404 Not Found", "Content-Length: 0"))  # noqa: E731
SETTINGS = FetchSettings(
    timeout_s=0.5, deadline_s=30.0, num_retries=1, retry_wait_s=0.01, max_retry_after_s=0.8, num_threads=8
)
"""A `Retry-After` of a second is longer than a thread waits (`timeout_s`), so it puts off."""


def serves(connection: Connection) -> None:
    """A picture."""
    connection.send(ok(PICTURE))


def refuses(connection: Connection) -> None:
    """Too many requests, for a second."""
    connection.send(answer("429 Too Many Requests", "Retry-After: 1", "Content-Length: 0"))


@contextmanager
def fetched(
    scripts: Mapping[str, Script], folder: Path, settings: FetchSettings = SETTINGS, robots: Script = ABSENT
) -> Iterator[tuple[dict[str, UrlOutcome], Counter[str], HostileServer]]:
    """Download every path of a server; yields outcomes and requests by path."""
    with hostile({"/robots.txt": robots, **scripts}) as server:
        with download([server.url(path) for path in scripts], folder, settings, allow_loopback=True) as downloads:
            outcomes = dict(zip(scripts, downloads.outcomes, strict=True))
        yield outcomes, Counter(request.split(" ")[1] for request in server.requests), server


def reasons(outcomes: Mapping[str, UrlOutcome]) -> Counter[str | None]:
    """How many outcomes have each reason."""
    return Counter(outcome.reason for outcome in outcomes.values())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
@pytest.mark.parametrize("first", [True, False], ids=["refused first", "refused last"])
def test_one_tenant_that_is_refused_costs_the_others_of_its_host_nothing(
    tmp_path: Path, status: str, first: bool, engine: str
) -> None:
    patient = {"timeout_s": 2.0, "max_retry_after_s": 2.5}  # on a busy machine, too, nobody but the refused is late
    settings = SETTINGS.model_copy(update={"engine": engine, **patient})

    def busy(connection: Connection) -> None:
        connection.send(answer(status, "Retry-After: 3", "Content-Length: 0"))

    bad: dict[str, Script] = {f"/bad/{n}.jpg": busy for n in range(4)}
    good: dict[str, Script] = {f"/good/{n}.jpg": serves for n in range(40)}
    with fetched(bad | good if first else good | bad, tmp_path / "part", settings) as (outcomes, asked, _):
        assert reasons({path: outcomes[path] for path in good}) == {None: 40}
        assert None not in reasons({path: outcomes[path] for path in bad})
        assert all(asked[path] == 1 for path in good)
        assert all(asked[path] <= SETTINGS.num_retries + 1 for path in bad)


def test_a_host_that_limits_the_rate_gives_all_its_pictures_in_the_end(tmp_path: Path) -> None:
    lock, numbers = threading.Lock(), iter(range(10_000))

    def every_third(connection: Connection) -> None:
        with lock:
            number = next(numbers)
        (refuses if number % 3 == 2 else serves)(connection)

    settings = SETTINGS.model_copy(update={"num_retries": 6, "max_retry_after_s": 0.1})
    with fetched({f"/{n}.jpg": every_third for n in range(20)}, tmp_path / "part", settings) as (outcomes, _, _):
        assert reasons(outcomes) == {None: 20}


def test_a_host_that_refuses_everybody_is_given_up_before_it_was_asked_for_every_picture(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"max_retry_after_s": 0.02})
    with fetched({f"/{n}.jpg": refuses for n in range(60)}, tmp_path / "part", settings) as (outcomes, asked, _):
        assert set(reasons(outcomes)) == {"http_429", "host_backoff"}
        assert sum(asked.values()) - asked["/robots.txt"] <= MAX_REFUSALS + settings.num_host_connections


def hangs(connection: Connection) -> None:
    """Say nothing."""
    connection.wait(60)


def test_a_dead_host_is_not_asked_for_each_of_its_pictures(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"timeout_s": 0.2})
    scripts: dict[str, Script] = {f"/{n}.jpg": hangs for n in range(40)}
    with fetched(scripts, tmp_path / "part", settings, robots=hangs) as (outcomes, asked, _):
        assert reasons(outcomes) == {"timeout": 40}
        assert asked == {"/robots.txt": settings.num_retries + 1}
    with fetched(scripts, tmp_path / "again", settings) as (outcomes, asked, _):
        assert set(reasons(outcomes)) <= {"timeout", "host_unreachable"}
        assert sum(asked.values()) <= 1 + NUM_FAILURES + settings.num_host_connections * (settings.num_retries + 1)


def test_dead_addresses_do_not_take_the_living_ones_of_their_host_along(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"timeout_s": 0.2, "num_retries": 2})
    dead: dict[str, Script] = {f"/{n}.jpg": hangs for n in range(6)}
    living: dict[str, Script] = {f"/living/{n}.jpg": serves for n in range(24)}
    with fetched(dead | living, tmp_path / "part", settings) as (outcomes, _, _):
        assert reasons({path: outcomes[path] for path in living}) == {None: 24}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_part_has_an_end_and_what_was_not_asked_for_says_so(tmp_path: Path, engine: str) -> None:
    settings = SETTINGS.model_copy(update={"part_deadline_s": 0.3, "num_host_connections": 1, "engine": engine})

    def slow(connection: Connection) -> None:
        connection.wait(0.1)
        serves(connection)

    with fetched({f"/{n}.jpg": slow for n in range(30)}, tmp_path / "part", settings) as (outcomes, asked, _):
        found = reasons(outcomes)
        assert found["part_deadline"] > 0
        assert set(found) <= {None, "part_deadline", "timeout"}
        assert sum(asked.values()) < 30


TEXTS: Mapping[str, tuple[str, dict[str, str | None]]] = {
    "all": ("User-agent: *\nDisallow: /\n", {"/a.jpg": "opted_out"}),
    "none": ("User-agent: *\nDisallow:\n", {"/a.jpg": None}),
    "folder": ("User-agent: *\nDisallow: /no/\n", {"/a.jpg": None, "/no/a.jpg": "opted_out"}),
    "longest": ("User-agent: *\nDisallow: /no\nAllow: /no/ok\n", {"/no/a.jpg": "opted_out", "/no/ok.jpg": None}),
    "others": ("User-agent: GPTBot\nDisallow: /\n", {"/a.jpg": None}),
    "ours": ("User-agent: FaceCaptionHQ\nDisallow: /\n\nUser-agent: *\nAllow: /\n", {"/a.jpg": "opted_out"}),
    "linked": ("User-agent: img2dataset\nDisallow: /\n", {"/a.jpg": "opted_out"}),
    "ours alone": ("User-agent: facecaptionhq\nAllow: /\n\nUser-agent: *\nDisallow: /\n", {"/a.jpg": None}),
    "mark": ("\ufeffUser-agent: *\r\nDisallow: /*.jpg$\r\n", {"/a.jpg": "opted_out", "/a.png": None}),
    "page": ("<html><body>Hello</body></html>", {"/a.jpg": None}),
    "usage": ("User-agent: *\nContent-Usage: /no/ train-ai=n\n", {"/a.jpg": None, "/no/a.jpg": "opted_out"}),
    "usage of all": ("Content-Usage: train-ai=n\nUser-agent: x\nDisallow: /\n", {"/a.jpg": "opted_out"}),
    "usage of others": ("User-agent: *\nDisallow: /x\nUser-agent: y\nContent-Usage: train-ai=n\n", {"/a.jpg": None}),
    "signal": ("User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /\n", {"/a.jpg": "opted_out"}),
    "search alone": ("User-agent: *\nContent-Signal: search=no, ai-train=yes\n", {"/a.jpg": None}),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TEXTS)
def test_robots_txt_is_heeded_and_asked_for_once(tmp_path: Path, name: str, engine: str) -> None:
    text, expected = TEXTS[name]
    settings = SETTINGS.model_copy(update={"engine": engine})
    scripts: dict[str, Script] = dict.fromkeys([*expected, *(f"/more/{n}.jpg" for n in range(3))], serves)
    robots: Script = lambda connection: connection.send(ok(text.encode()))  # noqa: E731
    with fetched(scripts, tmp_path / "part", settings, robots) as (outcomes, asked, server):
        assert {path: outcomes[path].reason for path in expected} == expected
        assert asked["/robots.txt"] == 1
        for path, reason in expected.items():
            opt_out = outcomes[path].opt_out
            assert (opt_out is None) == (reason is None) == (asked[path] == 1)
            assert opt_out is None or (opt_out.where, opt_out.source) == ("robots.txt", server.url("/robots.txt"))


TDMREP_PATH = "/.well-known/tdmrep.json"
RESERVATIONS: Mapping[str, tuple[str, dict[str, str | None]]] = {
    "all": ('[{"location": "/", "tdm-reservation": 1}]', {"/a.jpg": "opted_out"}),
    "none": ('[{"location": "/", "tdm-reservation": 0}]', {"/a.jpg": None}),
    "longest": (
        '[{"location": "/", "tdm-reservation": 1, "tdm-policy": "x"}, {"location": "/ok/", "tdm-reservation": 0}]',
        {"/a.jpg": "opted_out", "/ok/a.jpg": None},
    ),
    "pattern": ('[{"location": "/*/no*.jpg$", "tdm-reservation": "1"}]', {"/x/no1.jpg": "opted_out", "/no.jpg": None}),
    "contradiction": (
        '[{"location": "/", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}]',
        {"/a.jpg": "opted_out"},
    ),
    "no list, no location": ('\ufeff{"tdm-reservation": 1}', {"/a.jpg": "opted_out"}),
    "a line in a location": ('[{"location": "/x\\nDisallow: /", "tdm-reservation": 1}]', {"/a.jpg": None}),
    "a fraction": ('[{"location": "/", "tdm-reservation": 1.0}]', {"/a.jpg": "opted_out"}),
    "deeper": ('{"rules": [{"location": "/", "tdm-reservation": 1}]}', {"/a.jpg": "opted_out"}),
    "in capitals": ('[{"Location": "/", "TDM-Reservation": 1}]', {"/a.jpg": "opted_out"}),
    "a mere word": ('"tdm-reservation: 1"', {"/a.jpg": "opted_out"}),
    "broken": ('[{"location": "/", "tdm-reservation": 1},]', {"/a.jpg": "opted_out"}),
    "page": ("<html><body>Hello</body></html>", {"/a.jpg": None}),
    "other things": ('{"a": [1]}', {"/a.jpg": None}),
}


@pytest.mark.parametrize("name", RESERVATIONS)
def test_a_reservation_of_the_site_is_heeded_and_asked_for_once_whatever_is_waived(tmp_path: Path, name: str) -> None:
    text, expected = RESERVATIONS[name]
    scripts: dict[str, Script] = dict.fromkeys([*expected, *(f"/ok/more/{n}.jpg" for n in range(3))], serves)
    scripts |= {"/robots.txt": ABSENT, TDMREP_PATH: lambda connection: connection.send(ok(text.encode()))}
    with hostile(scripts) as server:
        urls = [server.url(path) for path in expected]
        for number, heeds_robots in enumerate((True, False), 1):
            folder = tmp_path / str(number)
            with download(urls, folder, SETTINGS, allow_loopback=True, heeds_robots=heeds_robots) as downloads:
                outcomes = dict(zip(expected, downloads.outcomes, strict=True))
            assert {path: outcome.reason for path, outcome in outcomes.items()} == expected
            asked = Counter(request.split(" ")[1] for request in server.requests)
            assert asked[TDMREP_PATH] == number
            for path, outcome in outcomes.items():
                assert asked[path] == (0 if outcome.reason else number)
                said = outcome.opt_out and (outcome.opt_out.where, outcome.opt_out.source)
                assert said == (("tdmrep.json", server.url(TDMREP_PATH)) if outcome.reason else None)


@pytest.mark.parametrize(
    ("status", "reason"),
    [("403 Forbidden", None), ("500 Oops", "tdmrep_unreachable"), ("206 Partial", "tdmrep_unreachable")],
)
def test_a_reservation_that_is_not_there_allows_all_and_one_that_cannot_be_read_nothing(
    tmp_path: Path, status: str, reason: str | None
) -> None:
    says: Script = lambda connection: connection.send(answer(status, "Content-Length: 0"))  # noqa: E731
    with fetched({"/a.jpg": serves, TDMREP_PATH: says}, tmp_path / "part") as (outcomes, asked, _):
        assert outcomes["/a.jpg"].reason == reason
        assert asked["/a.jpg"] == (reason is None)


@pytest.mark.parametrize(
    ("status", "reason"),
    [("404 Not Found", None), ("403 Forbidden", None), ("410 Gone", None), ("500 Oops", "robots_unreachable"),
     ("503 Busy", "robots_unreachable"), ("429 Slower", "robots_unreachable"), ("206 Partial", "robots_unreachable")],
)  # fmt: skip
def test_a_robots_txt_that_is_not_there_allows_all_and_one_that_cannot_be_read_nothing(
    tmp_path: Path, status: str, reason: str | None
) -> None:
    robots: Script = lambda connection: connection.send(answer(status, "Content-Length: 0"))  # noqa: E731
    with fetched({"/a.jpg": serves}, tmp_path / "part", robots=robots) as (outcomes, asked, _):
        assert outcomes["/a.jpg"].reason == reason
        assert asked["/a.jpg"] == (reason is None)
        assert asked["/robots.txt"] == (1 if reason is None else SETTINGS.num_retries + 1)


def test_a_robots_txt_may_move_and_tell_search_engines_not_to_index_it(tmp_path: Path) -> None:
    moved = answer("301 Moved", "Location: /rules.txt", "Content-Length: 0", "X-Robots-Tag: noindex")
    scripts: dict[str, Script] = {
        "/a.jpg": serves,
        "/rules.txt": lambda connection: connection.send(ok(b"User-agent: *\nDisallow: /a", "X-Robots-Tag: noindex")),
    }
    with fetched(scripts, tmp_path / "part", robots=lambda connection: connection.send(moved)) as (outcomes, _, _):
        assert outcomes["/a.jpg"].reason == "opted_out"


def test_a_site_is_one_however_it_is_spelled(tmp_path: Path) -> None:
    forbids: Script = lambda connection: connection.send(ok(b"User-agent: *\nDisallow: /"))  # noqa: E731
    with hostile({"/robots.txt": forbids}) as server:
        urls = [
            f"{site}:{server.port}/a.jpg" for site in ("http://localhost", "HTTP://LocalHost.", "http://u:p@localhost")
        ]
        with download(urls, tmp_path / "part", SETTINGS, allow_loopback=True) as downloads:
            assert [outcome.reason for outcome in downloads.outcomes] == ["opted_out"] * 3
        assert len(server.requests) == 1


def test_where_a_redirect_leads_its_own_robots_txt_counts(tmp_path: Path) -> None:
    forbids: Script = lambda connection: connection.send(ok(b"User-agent: *\nDisallow: /"))  # noqa: E731
    with hostile({"/robots.txt": forbids, "/b.jpg": serves}) as other:
        location = answer("302 Found", f"Location: {other.url('/b.jpg')}", "Content-Length: 0")
        scripts: dict[str, Callable[[Connection], None]] = {"/a.jpg": lambda connection: connection.send(location)}
        with fetched(scripts, tmp_path / "part") as (outcomes, _, _):
            assert outcomes["/a.jpg"].reason == "opted_out"
            assert outcomes["/a.jpg"].opt_out is not None
            assert outcomes["/a.jpg"].opt_out.source == other.url("/robots.txt")
        assert [request.split(" ")[1] for request in other.requests] == ["/robots.txt"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_disk_that_takes_no_more_stops_the_part_and_blames_no_host(tmp_path: Path, engine: str) -> None:
    settings = SETTINGS.model_copy(update={"engine": engine})
    large: Script = lambda connection: connection.send(ok(bytes(2 << 20)))  # noqa: E731
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "pass-0").symlink_to("/nowhere")
    with pytest.raises(OSError, match="pass-0"), fetched({"/a.jpg": large}, tmp_path / "part", settings):
        raise AssertionError("nothing can have arrived")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_disk_that_fills_up_while_pictures_arrive_stops_the_part_and_blames_no_host(
    tmp_path: Path, engine: str
) -> None:
    settings = SETTINGS.model_copy(update={"engine": engine})
    arrives: Script = lambda connection: connection.send(ok(bytes(1_000_000)))  # noqa: E731
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"), fetched({"/a.jpg": arrives}, tmp_path / "part", settings):
            raise AssertionError("nothing can have arrived")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
