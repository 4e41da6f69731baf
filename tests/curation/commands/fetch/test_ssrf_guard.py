"""The guard: no form of an address that is not public is ever connected to, by redirect or rebinding neither."""

import ipaddress
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from curation.commands.fetch.http import read_url
from curation.commands.fetch.politeness import Hosts
from curation.commands.fetch.ssrf_guard import BlockedAddressError, guarded, is_public
from curation.recipe.settings import FetchSettings
from tests.curation.commands.fetch.hostile import answer, hostile, ok

SETTINGS = FetchSettings(timeout_s=1, deadline_s=2)
NAMES = {
    "metadata.google.internal": "169.254.169.254",
    "intranet.example.org": "10.1.2.3",
    "localtest.example.org": "127.0.0.1",
    "six.example.org": "::1",
    "cgnat.example.org": "100.64.0.1",
    "mapped.example.org": "::ffff:10.0.0.1",
    "mixed.example.org": "192.168.1.1",
}
"""What the fake resolver says of names; every other name or number goes to the real one."""

HOSTILE_URLS = [
    "http://127.0.0.1/a.jpg",
    "http://127.0.0.1:8080/a.jpg",
    "https://127.0.0.1/a.jpg",
    "http://127.1/a.jpg",
    "http://127.0.1/a.jpg",
    "http://127.255.255.254/a.jpg",
    "http://2130706433/a.jpg",
    "http://0x7f000001/a.jpg",
    "http://0x7f.0.0.1/a.jpg",
    "http://0177.0.0.1/a.jpg",
    "http://017700000001/a.jpg",
    "http://0/a.jpg",
    "http://0.0.0.0/a.jpg",
    "http://localhost/a.jpg",
    "http://LOCALHOST./a.jpg",
    "http://user:password@127.0.0.1/a.jpg",
    "http://example.org@127.0.0.1/a.jpg",
    "http://127.0.0.1#@example.org/a.jpg",
    "http://127.0.0.1\\@example.org/a.jpg",
    "http://\uff11\uff12\uff17.0.0.1/a.jpg",
    "http://127\u30020\u30020\u30021/a.jpg",
    "http://%31%32%37.0.0.1/a.jpg",
    "http://[::1]/a.jpg",
    "http://[::]/a.jpg",
    "http://[0:0:0:0:0:0:0:1]/a.jpg",
    "http://[::ffff:127.0.0.1]/a.jpg",
    "http://[::ffff:7f00:1]/a.jpg",
    "http://[::ffff:a9fe:a9fe]/a.jpg",
    "http://[::127.0.0.1]/a.jpg",
    "http://[64:ff9b::7f00:1]/a.jpg",
    "http://[64:ff9b::a9fe:a9fe]/a.jpg",
    "http://[2002:7f00:1::]/a.jpg",
    "http://[2001:0:0:0:0:0:80ff:fffe]/a.jpg",
    "http://[fe80::1]/a.jpg",
    "http://[fe80::1%25lo]/a.jpg",
    "http://[fc00::1]/a.jpg",
    "http://[fd12:3456::1]/a.jpg",
    "http://[fec0::1]/a.jpg",
    "http://[ff02::1]/a.jpg",
    "http://10.0.0.1/a.jpg",
    "http://172.16.0.1/a.jpg",
    "http://172.31.255.255/a.jpg",
    "http://192.168.0.1/a.jpg",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/latest/meta-data/",
    "http://0251.0376.0251.0376/latest/meta-data/",
    "http://100.64.0.1/a.jpg",
    "http://192.0.2.1/a.jpg",
    "http://198.18.0.1/a.jpg",
    "http://224.0.0.1/a.jpg",
    "http://240.0.0.1/a.jpg",
    "http://255.255.255.255/a.jpg",
    *(f"http://{name}/a.jpg" for name in NAMES),
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "data:image/png;base64,AAAA",
    "ftp://127.0.0.1/a.jpg",
    "gopher://127.0.0.1:70/_GET",
    "dict://127.0.0.1:11211/stats",
    "javascript:alert(1)",
    "unix:///var/run/docker.sock",
    "//127.0.0.1/a.jpg",
    "127.0.0.1/a.jpg",
    "http:127.0.0.1/a.jpg",
    "http:///127.0.0.1/a.jpg",
    "",
]
REASONS = {"blocked_address", "blocked_scheme", "bad_url", "dns"}


class Witness:
    """Hears of every connection that the guard, whose hook came first, let through."""

    thread: int | None = None

    def __init__(self) -> None:
        self.connected: list[Any] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and threading.get_ident() == self.thread:
            self.connected.append(arguments[1])


WITNESSES: list[Witness] = []


@pytest.fixture
def witness() -> Iterator[Witness]:
    with guarded():  # the guard's hook must be the first
        pass
    if WITNESSES == []:
        WITNESSES.append(Witness())
        sys.addaudithook(WITNESSES[0])
    WITNESSES[0].connected.clear()
    WITNESSES[0].thread = threading.get_ident()
    yield WITNESSES[0]
    WITNESSES[0].thread = None


def resolve_with(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, str]) -> None:
    """Let a fake resolver speak for some names, the first time with the first answers, at last with the last."""
    real, left = socket.getaddrinfo, list(answers)

    def getaddrinfo(host: str, port: int, *rest: Any, **more: Any) -> Any:
        names = left.pop(0) if len(left) > 1 else left[0]
        return real(names.get(host, host), port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def hosts() -> Hosts:
    return Hosts(4, 1.0)


def test_the_table_of_hostile_forms_is_long_enough() -> None:
    assert len(set(HOSTILE_URLS)) == len(HOSTILE_URLS) >= 60


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_no_hostile_form_connects(url: str, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_with(monkeypatch, NAMES)
    outcome = read_url(url, SETTINGS, hosts())
    assert witness.connected == []
    assert (outcome.body, outcome.reason in REASONS) == (None, True), outcome


@pytest.mark.parametrize(
    "location", [url for url in HOSTILE_URLS if not url.startswith(("http://127.", "//127."))][::3]
)
def test_no_redirect_leads_to_a_hostile_form(location: str, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    public = {"public.example.org": "127.0.0.1"}
    resolve_with(monkeypatch, public, NAMES)
    with hostile(
        {"/": lambda c: c.send(answer("302 Found", f"Location: {location}".encode().decode("latin-1")))}
    ) as server:
        is_public = "curation.commands.fetch.ssrf_guard.is_public"
        monkeypatch.setattr(is_public, lambda a: str(a) == "127.0.0.1" and not witness.connected)
        outcome = read_url(f"http://public.example.org:{server.port}/", SETTINGS, hosts())
    assert witness.connected == [("127.0.0.1", server.port)]
    assert outcome.body is None
    assert outcome.reason in REASONS | {"redirect_loop"}


def test_a_name_that_resolves_anew_is_checked_anew(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: public while somebody checks, private when somebody connects; what connects is what counts."""
    resolve_with(monkeypatch, {"rebind.example.org": "93.184.216.34"}, {"rebind.example.org": "169.254.169.254"})
    with guarded(), socket.socket() as plain:
        assert socket.getaddrinfo("rebind.example.org", 80)[0][4][0] == "93.184.216.34"
        with pytest.raises(BlockedAddressError, match=r"169\.254\.169\.254"):
            plain.connect(socket.getaddrinfo("rebind.example.org", 80)[0][4])
    assert witness.connected == []


def test_one_private_address_among_public_ones_blocks_the_name(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    assert read_url("http://both.example.org/", SETTINGS, hosts()).reason == "blocked_address"
    assert witness.connected == []


def test_the_guard_itself_stops_sockets_of_every_kind(witness: Witness) -> None:
    with guarded(), socket.socket() as plain:
        for address in (("127.0.0.1", 80), ("localhost", 80)):
            with pytest.raises(BlockedAddressError):
                plain.connect(address)
        with socket.socket(socket.AF_UNIX) as unix, pytest.raises(BlockedAddressError):
            unix.connect("/var/run/docker.sock")
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams, pytest.raises(BlockedAddressError):
            datagrams.sendto(b"x", ("127.0.0.1", 53))
    assert witness.connected == []


def test_other_threads_and_later_times_are_free() -> None:
    with hostile({"/": lambda c: c.send(ok(b"x"))}) as server:
        reached = []

        def connect() -> None:
            socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
            reached.append(True)

        with guarded():
            thread = threading.Thread(target=connect)
            thread.start()
            thread.join()
        connect()
        assert reached == [True, True]


def test_loopback_is_reached_only_where_it_is_allowed_and_nothing_else_with_it() -> None:
    with hostile({"/": lambda c: c.send(ok(b"picture"))}) as server:
        assert read_url(server.url("/"), SETTINGS, hosts()).reason == "blocked_address"
        assert read_url(server.url("/"), SETTINGS, hosts(), allow_loopback=True).body == b"picture"
        assert len(server.requests) == 1
    for url in ("http://10.0.0.1/", "http://169.254.169.254/", "file:///etc/passwd", "http://0.0.0.0/"):
        assert read_url(url, SETTINGS, hosts(), allow_loopback=True).reason in ("blocked_address", "blocked_scheme")


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile({"/": lambda c: c.send(ok(b"direct"))}) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert read_url(server.url("/"), SETTINGS, hosts(), allow_loopback=True).body == b"direct"


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_refusal_costs_no_time() -> None:
    started = time.monotonic()
    for url in HOSTILE_URLS[:13]:
        read_url(url, SETTINGS, hosts())
    assert time.monotonic() - started < 10 * SETTINGS.timeout_s
