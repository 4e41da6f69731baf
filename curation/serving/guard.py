"""Who may ask the page's server: the browser that was given the address on this terminal, and no page but its own.

The address carries a token; whoever brings it gets it back as a cookie that no script reads and no other site makes the
browser send. A request under another name than this machine's own is a page elsewhere whose name leads here (DNS
rebinding). What changes something must bring a second token in a header, which no form and no other origin can set.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from hmac import compare_digest
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 4 << 20
"""A list of 100,000 uids fits."""
MAX_LENGTH_DIGITS = 12
"""Of a stated length; Python reads no number of some thousand digits."""
MAX_QUERY_BYTES = 16 << 10
CSRF_HEADER = "x-page-csrf"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing but this server's own files; no text ever becomes HTML or script."""
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Secrets:
    """What a browser must know; new each time the server starts."""

    port: int
    command: str
    """Which command serves, as it is typed."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def hosts(self) -> tuple[str, ...]:
        """What this server is called."""
        return f"127.0.0.1:{self.port}", f"localhost:{self.port}"

    @property
    def cookie(self) -> str:
        """Name of the cookie: cookies do not know ports, and several pages may be open."""
        return f"facecaptionhq_{self.command}_{self.port}"

    @property
    def address(self) -> str:
        """What to open in the browser."""
        return f"http://{self.hosts[0]}/?token={self.token}"


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    why: str


class Guard:
    """Lets requests through to an app that may be answered, and adds to each answer what browsers must know."""

    def __init__(self, app: App, known: Secrets, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        """Stand before an app that takes bodies of up to `max_body_bytes`."""
        self._app, self._known, self._most = app, known, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        brought = token_in(scope["query_string"]) if scope["path"] == "/" and scope["method"] == "GET" else None
        refusal = refusal_of(scope["method"], len(scope["query_string"]), headers, self._known, brought, self._most)
        extra = dict(HEADERS)
        if brought is not None and refusal is None:
            extra["set-cookie"] = f"{self._known.cookie}={self._known.token}; HttpOnly; SameSite=Strict; Path=/"
        guarded = _with_headers(send, extra)
        if refusal is not None:
            await _refuse(guarded, refusal)
        else:
            await self._app(scope, _capped(receive, self._most), guarded)


def refusal_of(
    method: str,
    num_query_bytes: int,
    headers: Mapping[str, str],
    known: Secrets,
    brought: str | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Refusal | None:
    """Return why a request is refused, or None; `brought` is the token in its address."""
    given = cookie_in(headers.get("cookie", ""), known.cookie) if brought is None else brought
    is_elsewhere = headers.get("origin") not in (None, *(f"http://{host}" for host in known.hosts))
    is_elsewhere |= headers.get("sec-fetch-site") == "cross-site" and brought is None
    length, writes = headers.get("content-length", ""), method not in ("GET", "HEAD")
    is_short = length.isdecimal() and len(length) <= MAX_LENGTH_DIGITS
    tests = (
        (headers.get("host", "") in known.hosts, 421, "this server answers only under the name of this machine"),
        (not is_elsewhere, 403, "another site asks"),
        (_equal(given, known.token), 403, f"open the address that `facecaptionhq {known.command}` has printed"),
        (num_query_bytes <= MAX_QUERY_BYTES, 414, "the address is too long"),
        (not writes or _equal(headers.get(CSRF_HEADER), known.csrf), 403, "the header of this page is missing"),
        (not writes or length.isdecimal(), 411, "a length is missing"),
        (not writes or (is_short and int(length) <= max_body_bytes), 413, "the request is too large"),
    )
    return next((Refusal(status, why) for holds, status, why in tests if not holds), None)


def _equal(given: str | None, wanted: str) -> bool:
    return given is not None and compare_digest(given.encode(), wanted.encode())


def token_in(query: bytes) -> str | None:
    """Return the token in the query of an address."""
    if len(query) > MAX_QUERY_BYTES:
        return None
    values = parse_qs(query.decode("latin-1"), max_num_fields=8).get("token") if query.count(b"&") < 8 else None
    return values[0] if values else None


def cookie_in(header: str, name: str) -> str | None:
    """Return the value of a cookie."""
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return morsel.value if morsel is not None else None


def _capped(receive: Receive, max_bytes: int) -> Receive:
    """Return a stream of a body that ends where it grows beyond what is taken, whatever length was stated."""
    num_bytes = 0

    async def limited() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        return message if num_bytes <= max_bytes else {"type": "http.disconnect"}

    return limited


def _with_headers(send: Send, extra: Mapping[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in extra.items()]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sending


async def _refuse(send: Send, refusal: Refusal) -> None:
    body = refusal.why.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
