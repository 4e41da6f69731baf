"""Replies of shards that are not done yet, kept as they come: whoever goes on asks about none of these pictures again.

Every attempt at a shard has a file of its own, on a disk of lines that are synced one by one, in an object store an
object for every `NUM_IN_OBJECT` replies. A line bears the digest of its own content: what a crash tore is passed over.
Files are named by what was asked, so nobody takes the answer to another question. A done record makes them needless.
"""

import json
import logging
import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from curation.commands.caption.rows import REPLY_FIELDS
from curation.errors import FaceCaptionError
from curation.run.folders import names_in
from curation.storage.fence import passing
from curation.storage.paths import content_of, is_local
from curation.storage.publish import SEAL, TEMP_FOLDER, digest, publish, refusing, remove, sync_folder

REPLIES = ".replies"
"""Suffix of a file of replies that no done record holds yet."""
NUM_IN_OBJECT = 16
"""Replies that an object of a store holds: so many may be lost where a process is killed."""
PICTURE = ("uid", "sha256")
FIELDS = frozenset({*PICTURE, *(field.name for field in REPLY_FIELDS)})
Reply = Mapping[str, Any]
"""The picture's uid and sha256, and the columns of its reply."""

log = logging.getLogger(__name__)


class Arrived:
    """The replies that have come about one shard, those of earlier attempts included."""

    def __init__(self, target: Path, shard: str, question: str) -> None:
        """Begin a file of its own at the first reply; `question` is the digest of what is asked."""
        self._folder, self._name = target / TEMP_FOLDER, f"{shard}.{question[:16]}."
        self._descriptor: int | None = None
        self._waiting: list[bytes] = []

    def __enter__(self) -> "Arrived":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        with nullcontext() if error is None else suppress(FaceCaptionError):  # else what is wrong has been said
            self._put()

    def known(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the columns of the replies of earlier attempts, by uid and sha256 of the picture."""
        replies = [reply for path in self._files() for reply in replies_in(path)]
        return {
            (reply["uid"], reply["sha256"]): {field.name: reply[field.name] for field in REPLY_FIELDS}
            for reply in replies
        }

    def add(self, uid: str, sha256: str, columns: Mapping[str, Any]) -> None:
        """Keep a reply that has just come: durable on a disk when this returns.

        Raises:
            LeaseError, DiskFullError, StorageError: as `curation.storage.publish.publish`.
        """
        line = line_of({**columns, "uid": uid, "sha256": sha256})
        if is_local(self._folder):
            self._append(line)
            return
        self._waiting.append(line)
        if len(self._waiting) >= NUM_IN_OBJECT:
            self._put()

    def remove(self) -> None:
        """Forget them all: a done record holds them."""
        self._waiting.clear()
        for path in self._files():
            remove(path)

    def _files(self) -> list[Path]:
        return [path for path in files_of(self._folder.parent) if path.name.startswith(self._name)]

    def _new_file(self) -> Path:
        return self._folder / f"{self._name}{uuid.uuid4().hex}{REPLIES}"

    def _append(self, line: bytes) -> None:
        with refusing(self._folder), passing(self._folder / REPLIES):
            if self._descriptor is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self._new_file(), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
                sync_folder(self._folder)
            left = memoryview(line)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)

    def _put(self) -> None:
        if self._waiting:
            content = b"".join(self._waiting)
            publish(self._new_file(), lambda temp: temp.write_bytes(content))
            self._waiting.clear()


def files_of(target: Path) -> list[Path]:
    """Return every file of replies in a folder of captions that no done record holds yet."""
    return [target / TEMP_FOLDER / name for name in names_in(target / TEMP_FOLDER) if name.endswith(REPLIES)]


def replies_in(path: Path) -> Iterator[Reply]:
    """Yield the replies of a file that were written whole; of the others one is told that they are asked for again.

    A file that has gone meanwhile holds none: another worker has finished its shard.
    """
    for line in _lines_of(path):
        try:
            reply = json.loads(line)
            is_whole = reply.pop(SEAL) == digest(reply) and reply.keys() == FIELDS
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            is_whole = False
        if is_whole:
            yield reply
        else:
            log.warning("%s: a reply that was not written whole is passed over, and asked for again", path)


def _lines_of(path: Path) -> list[bytes]:
    try:
        return content_of(path).splitlines()
    except FileNotFoundError:
        return []


def lines_without(path: Path, uids: Collection[str]) -> bytes | None:
    """Return the content of a file of replies without those about some pictures; None where nothing of it has to go.

    A line that was not written whole goes, too: nobody takes it, and whom it is about cannot be told.
    """
    left = b"".join(line_of(reply) for reply in replies_in(path) if reply["uid"] not in uids)
    return None if left == content_of(path) else left


def line_of(reply: Reply) -> bytes:
    """Return a reply as one line with its own seal."""
    return json.dumps({**reply, SEAL: digest(dict(reply))}, sort_keys=True, separators=(",", ":")).encode() + b"\n"
