"""A server that speaks the hub's HTTP for data sets: repositories, uploads, commits, trees, files; it fails as told.

Upload by LFS (`HF_HUB_DISABLE_XET=1`) or, where `lfs_from` is out of reach, within commits. It keeps all in memory.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.serving import Web, serving

TOKEN = "hf_secret-of-the-test"
NEVER = 1 << 62


@dataclass(frozen=True)
class Stored:
    """A file of a repository."""

    content: bytes
    is_lfs: bool

    @property
    def oid(self) -> str:
        """What git, or LFS, calls the content."""
        blob = b"blob %d\0" % len(self.content) + self.content
        return hashlib.sha256(self.content).hexdigest() if self.is_lfs else hashlib.sha1(blob).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """Return what a tree says of it."""
        lfs = {"lfs": {"oid": self.oid, "size": len(self.content), "pointerSize": 127}} if self.is_lfs else {}
        return {"type": "file", "path": path, "oid": self.oid[:40], "size": len(self.content), **lfs}


@dataclass
class Fault:
    """Requests that go wrong: the next `times` whose method and path match."""

    pattern: str
    status: int
    times: int = 1
    is_done_all_the_same: bool = False
    """Whether the server does what was asked, and only the answer is lost."""


@dataclass
class Repository:
    is_private: bool
    commits: list[dict[str, Stored]] = field(default_factory=lambda: [{}])

    @property
    def head(self) -> dict[str, Stored]:
        return self.commits[-1]

    @property
    def sha(self) -> str:
        state = [(path, stored.oid) for path, stored in sorted(self.head.items())]
        return hashlib.sha1(repr((len(self.commits), state)).encode()).hexdigest()


class HubServer(Web):
    """The hub, its repositories and what it was asked."""

    def __init__(self, lfs_from: int = 1000) -> None:
        super().__init__(Handler)
        self.lfs_from = lfs_from
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.on_request: Callable[[str], None] = lambda _: None
        self.lock = threading.Lock()

    def count(self, pattern: str) -> int:
        """Return how many requests that were not refused match."""
        return sum(re.search(pattern, line) is not None for line in self.asked)

    def fault_of(self, line: str) -> Fault | None:
        """Return, and use up, a fault that a request meets."""
        with self.lock:
            fault = next((one for one in self.faults if one.times > 0 and re.search(one.pattern, line)), None)
            if fault is not None:
                fault.times -= 1
            return fault


@contextmanager
def hub(lfs_from: int = 1000) -> Iterator[HubServer]:
    """Serve an empty hub."""
    with serving(HubServer(lfs_from)) as server:
        yield server


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def _answer(self) -> None:
        self.body = self._read()
        path = unquote(urlsplit(self.path).path)
        line = f"{self.command} {path}"
        self.server.on_request(line)
        is_open = self.command in ("GET", "HEAD") or path.startswith("/lfs/")
        if not is_open and (given := self.headers.get("Authorization")) != f"Bearer {TOKEN}":
            return self._send(401, {"error": f"nobody here knows {given}"})
        fault = self.server.fault_of(line)
        if fault is not None and not fault.is_done_all_the_same:
            return self._send(fault.status, {"error": "as the test asks"}, {"Retry-After": "0"})
        for pattern, act in ROUTES:
            if found := re.fullmatch(pattern, line):
                with self.server.lock:
                    self.server.asked.append(line)
                    status, value, headers = act(self, *found.groups())
                if fault is not None:
                    return self._send(fault.status, {"error": "the answer is lost"}, {"Retry-After": "0"})
                return self._send(status, value, headers)
        return self._send(404, {"error": "not here"}, {"X-Error-Code": "EntryNotFound"})

    do_GET = do_POST = do_PUT = do_HEAD = _answer

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that http.server gives it
        pass


Answer = tuple[int, Any, dict[str, str]]


def _create(handler: Handler) -> Answer:
    asked = json.loads(handler.body)
    name = f"{asked['organization']}/{asked['name']}"
    url = {"url": f"{handler.server.address}/datasets/{name}", "name": name, "id": name}
    if name in handler.server.repositories:
        return 409, {"error": "You already created this dataset repo", **url}, {}
    handler.server.repositories[name] = Repository(asked.get("visibility") == "private" or asked.get("private") is True)
    return 200, url, {}


def _yaml(handler: Handler) -> Answer:
    return 200, {"errors": [], "warnings": []}, {}


def _info(handler: Handler, name: str, _: str | None = None) -> Answer:
    repository = handler.server.repositories.get(name)
    if repository is None:
        return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
    siblings = [{"rfilename": path} for path in sorted(repository.head)]
    return (
        200,
        {"id": name, "sha": repository.sha, "siblings": siblings, "private": repository.is_private, "tags": []},
        {},
    )


def _tree(handler: Handler, name: str, _: str, folder: str | None = None) -> Answer:
    prefix = f"{folder.strip('/')}/" if folder and folder.strip("/") else ""
    head = handler.server.repositories[name].head
    files = {path: stored for path, stored in sorted(head.items()) if path.startswith(prefix)}
    if prefix and not files:
        return 404, {"error": "no such path"}, {"X-Error-Code": "EntryNotFound"}
    is_deep = parse_qs(urlsplit(handler.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
    folders = sorted(
        {path[: len(prefix)] + path[len(prefix) :].partition("/")[0] for path in files if "/" in path[len(prefix) :]}
    )
    shown = [stored.entry(path) for path, stored in files.items() if is_deep or "/" not in path[len(prefix) :]]
    return 200, [*({"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders), *shown], {}


def _paths(handler: Handler, name: str, _: str) -> Answer:
    try:
        wanted = json.loads(handler.body)["paths"]
    except ValueError:
        wanted = parse_qs(handler.body.decode())["paths"]
    head = handler.server.repositories[name].head
    found = [head[path].entry(path) for path in wanted if path in head]
    folders = [path for path in wanted if any(each.startswith(f"{path}/") for each in head)]
    return 200, [*found, *({"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders)], {}


def _preupload(handler: Handler, name: str, _: str) -> Answer:
    head = handler.server.repositories[name].head
    files = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if file["size"] >= handler.server.lfs_from else "regular",
            "shouldIgnore": False,
            "oid": head[file["path"]].oid if file["path"] in head else None,
        }
        for file in json.loads(handler.body)["files"]
    ]
    return 200, {"files": files}, {}


def _batch(handler: Handler, _: str) -> Answer:
    server = handler.server
    objects = []
    for asked in json.loads(handler.body)["objects"]:
        upload = {"actions": {"upload": {"href": f"{server.address}/lfs/{asked['oid']}"}}}
        objects.append({**asked, **({} if asked["oid"] in server.objects else upload)})
    return 200, {"transfer": "basic", "objects": objects}, {}


def _put(handler: Handler, oid: str) -> Answer:
    assert hashlib.sha256(handler.body).hexdigest() == oid
    handler.server.objects[oid] = handler.body
    return 200, {}, {}


def _commit(handler: Handler, name: str, _: str) -> Answer:
    repository = handler.server.repositories[name]
    files = dict(repository.head)
    for line in handler.body.splitlines():
        operation = json.loads(line)
        value = operation["value"]
        if operation["key"] == "file":
            files[value["path"]] = Stored(base64.b64decode(value["content"]), is_lfs=False)
        elif operation["key"] == "lfsFile":
            files[value["path"]] = Stored(handler.server.objects[value["oid"]], is_lfs=True)
        elif operation["key"] == "deletedFile":
            del files[value["path"]]
    repository.commits.append(files)
    url = f"{handler.server.address}/datasets/{name}/commit/{repository.sha}"
    return 200, {"success": True, "commitOid": repository.sha, "commitUrl": url, "hookOutput": ""}, {}


def _squash(handler: Handler, name: str, _: str) -> Answer:
    handler.server.repositories[name].commits[:-1] = []
    return 200, {}, {}


def _resolve(handler: Handler, name: str, _: str, path: str) -> Answer:
    repository = handler.server.repositories[name]
    if path not in repository.head:
        return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"}
    stored = repository.head[path]
    headers = {"ETag": f'"{stored.oid}"', "X-Repo-Commit": repository.sha, "Accept-Ranges": "bytes"}
    if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", "")):
        start, end = int(asked[1]), int(asked[2] or len(stored.content) - 1) + 1
        part = stored.content[start:end]
        span = f"bytes {start}-{start + len(part) - 1}/{len(stored.content)}"
        return 206, part, {**headers, "Content-Range": span}
    return 200, stored.content, headers


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES: tuple[tuple[str, Callable[..., Answer]], ...] = (
    (r"POST /api/repos/create", _create),
    (r"POST /api/validate-yaml", _yaml),
    (rf"GET /api/datasets/{NAME}", _info),
    (rf"GET /api/datasets/{NAME}/revision/(.+)", _info),
    (rf"GET /api/datasets/{NAME}/tree/([^/]+)(/.*)?", _tree),
    (rf"POST /api/datasets/{NAME}/paths-info/(.+)", _paths),
    (rf"POST /api/datasets/{NAME}/preupload/(.+)", _preupload),
    (rf"POST /api/datasets/{NAME}/commit/(.+)", _commit),
    (rf"POST /api/datasets/{NAME}/super-squash/(.+)", _squash),
    (rf"POST /datasets/{NAME}\.git/info/lfs/objects/batch", _batch),
    (r"PUT /lfs/([0-9a-f]{64})", _put),
    (rf"(?:GET|HEAD) /datasets/{NAME}/resolve/([^/]+)/(.+)", _resolve),
)
