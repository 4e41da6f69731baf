"""A server that speaks as much of OpenAI's chat completions as is asked of one, and misbehaves as it is told."""

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

from PIL import Image

from tests.serving import Web, serving

Behaviour = Callable[[int, int], Any]
"""(number of the picture by when it first came, how often it came before) -> what to answer: a text, a status, ..."""
DRIPPING = "dripping"
"""Answers a byte now and then, for four seconds."""
LATE = "late"
"""Answers after another request about the same picture has come; a tuple of this and the answer."""


def good(number: int, _: int) -> str:
    """Describe each picture otherwise."""
    return f"A woman with red hair stands in front of the wall with number {number} and smiles."


class ModelServer(Web):
    """Answers POSTs; knows every picture by its bytes."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(_Handler)
        self.behaviour = behaviour
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.cookies: list[str | None] = []
        self.num_dripped_to_the_end = 0
        self.asked: Counter[bytes] = Counter()
        self.lock = threading.Condition()

    def answer(self, body: dict[str, Any], key: str | None) -> Any:
        """Note a request, and return what to answer."""
        url = body["messages"][0]["content"][1]["image_url"]["url"]
        picture = base64.b64decode(url.partition(",")[2])
        with self.lock:
            self.bodies.append(body)
            self.keys.append(key)
            number, before = (
                list(self.asked).index(picture) if picture in self.asked else len(self.asked),
                self.asked[picture],
            )
            self.asked[picture] += 1
            self.lock.notify_all()
        with Image.open(BytesIO(picture)) as image:
            assert (image.format, dict(image.getexif())) == ("JPEG", {})
        answer = self.behaviour(number, before)
        if not (isinstance(answer, tuple) and answer[0] == LATE):
            return answer
        with self.lock:
            self.lock.wait_for(lambda: self.asked[picture] > before + 1, 60)
        return answer[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.cookies.append(self.headers.get("Cookie"))
        answer = self.server.answer(body, self.headers.get("Authorization"))
        if answer == DRIPPING:
            self.drip()
            return
        status = answer if isinstance(answer, int) else 200
        content = answer if isinstance(answer, bytes) else b"{}" if isinstance(answer, int) else completion(answer)
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.send_header("Set-Cookie", "met=before")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def drip(self) -> None:
        """Answer as long as anybody listens, and rightly after four seconds."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(40):
            self.wfile.write(b"x")
            time.sleep(0.1)
        self.server.num_dripped_to_the_end += 1
        content = completion("The late answer stands in front of the wall of a house with a smile.")
        self.wfile.write(b"\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))

    def log_message(self, *_: Any) -> None:
        pass


def completion(text: Any, finish: str = "stop", times: int = 1) -> bytes:
    """Return an answer of one choice, or of the same one several times."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"model": "tiny-served", "choices": [choice] * times}).encode()


@contextmanager
def model_server(behaviour: Behaviour = good) -> Iterator[ModelServer]:
    """Serve until the block ends."""
    with serving(ModelServer(behaviour)) as server:
        yield server


def address_of(server: ModelServer) -> str:
    """Return what `--endpoint` takes."""
    return f"{server.address}/v1"
