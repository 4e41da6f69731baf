"""Asks a server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp and whoever does as they do.

Each request waits for its own answer, on a connection of its own while it does, so a late answer is never taken for
another picture's: whoever gave up waiting has closed that connection. Time is up after `timeout_s` even of a server
that keeps on sending or reading a byte now and then. No proxy and no `.netrc` of the environment is used, no redirect
is followed and no cookie kept: pictures go where `--endpoint` says.
"""

import asyncio
import base64
import json
import os
import threading
from collections.abc import AsyncIterable, Mapping
from concurrent.futures import CancelledError
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import httpx2

from curation.commands.caption.reply import MAX_NAME_CHARACTERS, Budget, NobodyThereError, Reply, storable
from curation.errors import UsageError
from curation.recipe.captioning import CaptioningSettings

KEY_VARIABLE = "FACECAPTIONHQ_CAPTION_KEY"
"""Environment variable of the bearer token, on every machine that asks."""
MAX_ANSWER_BYTES = 4 << 20
PASSING = frozenset({"connection", "timeout", "http_408", "http_429", "http_5xx"})
"""Faults that may pass: those are asked about again."""
FOR_ALL = frozenset({401, 403, 404, 405})
"""Statuses that do not depend on the picture."""


class Endpoint:
    """A server, and how it is asked."""

    def __init__(self, address: str, settings: CaptioningSettings, budget: Budget) -> None:
        """Nothing is sent yet.

        Raises:
            NobodyThereError: the key in the environment is none that can be sent.
        """
        self._address, self._settings, self._budget = f"{address.rstrip('/')}/chat/completions", settings, budget
        self._client = httpx2.AsyncClient(
            headers=_authorization(),
            timeout=settings.timeout_s,
            trust_env=False,
            limits=httpx2.Limits(max_connections=settings.num_requests),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )
        self._ended, self._asking = threading.Event(), threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        self._thread.start()

    @property
    def num_at_once(self) -> int:
        """How many pictures it may be asked about at a time."""
        return self._settings.num_requests

    def ask(self, picture: bytes) -> Reply:
        """Return what it says of a JPEG; what may pass is asked again, as long as the budget lasts.

        Raises:
            NobodyThereError: the server knows neither us nor the model.
            CancelledError: `close` was called meanwhile.
        """
        body, wait_s = json.dumps(question(picture, self._settings)).encode(), self._settings.retry_wait_s
        for num_asked in range(1, self._settings.num_retries + 2):
            answer, asked_wait_s = self._answer(body)
            is_last = num_asked == self._settings.num_retries + 1
            if answer.fault not in PASSING or is_last or not self._budget.take():
                break
            self._ended.wait(min(wait_s if asked_wait_s is None else asked_wait_s, self._settings.max_retry_after_s))
            wait_s *= 2
        return Reply(answer.text, answer.fault, answer.answered_by, answer.finish_reason, num_asked)

    def close(self) -> None:
        """End what is under way, without its answer, and let go of all connections."""
        with self._asking:
            self._ended.set()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _answer(self, body: bytes) -> tuple[Reply, float | None]:
        with self._asking:  # what is asked before the end is there for it to be ended
            if self._ended.is_set():
                raise CancelledError
            asked = asyncio.run_coroutine_threadsafe(self._once(body), self._loop)
        return asked.result()

    async def _end(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._client.aclose()

    async def _once(self, body: bytes) -> tuple[Reply, float | None]:
        """Return one answer, and how long the server wants us to wait, where it says so."""
        headers = {"Content-Type": "application/json"}
        request = self._client.stream("POST", self._address, content=body, headers=headers)
        try:
            async with asyncio.timeout(self._settings.timeout_s), request as response:
                self._require_known(response.status_code)
                if response.status_code != 200:
                    fault = "http_5xx" if response.status_code >= 500 else f"http_{response.status_code}"
                    return Reply(fault=fault), _wait_of(response.headers)
                return await _read(response.aiter_bytes()), None
        except TimeoutError:
            return Reply(fault="timeout"), None
        except httpx2.HTTPError as error:
            return Reply(fault=_fault_of(error)), None

    def _require_known(self, status: int) -> None:
        if status in FOR_ALL:
            raise NobodyThereError(
                f"{self._address}: answers {status} to every picture: look at the address, at caption.model "
                f"{self._settings.model!r} and at {KEY_VARIABLE}"
            )


def _fault_of(error: httpx2.HTTPError) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return "timeout"
    return "bad_answer" if isinstance(error, httpx2.DecodingError) else "connection"


def _authorization() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise NobodyThereError(f"{KEY_VARIABLE}: holds what no token can; give it as printable ASCII, on one line")
    return {"Authorization": f"Bearer {key}"} if key else {}


async def _read(chunks: AsyncIterable[bytes]) -> Reply:
    """Return what an answer says that is not too large."""
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            return Reply(fault="answer_too_large")
    return parsed(bytes(content))


def question(picture: bytes, settings: CaptioningSettings) -> dict[str, Any]:
    """Return the body of a request about one JPEG: nothing of the sample but its pixels is in it."""
    url = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
    content = [{"type": "text", "text": settings.prompt}, {"type": "image_url", "image_url": {"url": url}}]
    return {
        "model": settings.model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": settings.max_tokens,
        "temperature": settings.temperature,
        "seed": settings.seed,
        "stream": False,
    }


def parsed(content: bytes) -> Reply:
    """Return what an answer says: exactly one message of one text, or `bad_answer`."""
    try:
        answer = json.loads(content)
        (choice,) = answer["choices"]
        text = choice["message"]["content"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Reply(fault="bad_answer")
    if not isinstance(text, str):
        return Reply(fault="bad_answer")
    return Reply(storable(text), None, _name(answer.get("model")), _name(choice.get("finish_reason")))


def require_address(address: str | None) -> str:
    """Return the address of an endpoint.

    Raises:
        UsageError: there is none, it is no http(s) address, or it holds a password, or a query, which may hold one.
    """
    given = address or ""
    if any(char in given for char in "@?#"):
        raise UsageError(f"--endpoint: no user, password or query in the address; give a token by {KEY_VARIABLE}")
    try:
        parts = urlsplit(given)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or not given.isprintable() or " " in given:
        raise UsageError(f"--endpoint {given or '(none)'}: give the server's base address, such as http://HOST:8000/v1")
    return given


def _name(value: Any) -> str | None:
    return storable(value)[:MAX_NAME_CHARACTERS] if isinstance(value, str) else None


def _wait_of(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "").strip()
    return float(value) if value.isascii() and value.isdecimal() and len(value) < 7 else None
