"""Receives the body of a response: whole or not at all, decompressed, bounded, and on disk where it is large.

A body that has arrived waits for its turn to be written into the shard; beyond `SPOOL_BYTES` it waits in a file without
a name, so that the memory of a process does not grow with the number and size of its downloads.
"""

import io
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from curation.commands.fetch.heads import length_in
from curation.commands.fetch.response import CHUNK_BYTES, RefusedError, Response, UsualResponse
from curation.recipe.settings import FetchSettings

SPOOL_BYTES = 1 << 20
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
USUAL = 200
PARTIAL = frozenset({206, 226})
"""Statuses of a part or a difference of a picture, which nobody asked for."""


class SpoolError(Exception):
    """What arrived cannot be kept: no fault of the server, but of the disk; the cause is the OSError."""


def receive(response: Response, settings: FetchSettings, folder: Path | None) -> IO[bytes]:
    """Return a file at its start with the whole body; `folder` is where a large one may lie.

    Raises:
        RefusedError: it is not whole, too large, or coded in a way that nobody asked for.
        SpoolError: it cannot be kept.
    """
    promised = _promised(response)
    if promised is not None and promised > settings.max_bytes:
        raise RefusedError("too_many_bytes", f"{promised} bytes promised; at most {settings.max_bytes}")
    codings = response.headers.get_all("content-encoding")
    decoder = _decoder(", ".join(codings), settings.max_bytes) if codings else _Plain()
    if promised is not None and promised <= SPOOL_BYTES and not response.chunked and type(decoder) is _Plain:
        content = response.read(promised)
        _require_whole(len(content), promised)
        _require_any(len(content))
        return io.BytesIO(content)
    where = None if folder is None else str(folder)
    kept: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=where)  # noqa: SIM115  handed on
    try:
        num_read = _pour(response, decoder, kept, settings.max_bytes)
        _require_whole(num_read, promised)
        decoder.finish()
        _require_any(kept.tell())
        kept.seek(0)
    except BaseException:
        kept.close()
        raise
    return kept


def _require_whole(num_read: int, promised: int | None) -> None:
    if promised is not None and num_read != promised:
        raise RefusedError("truncated_body", f"{num_read} of {promised} bytes")


def _require_any(num_kept: int) -> None:
    if num_kept == 0:
        raise RefusedError("empty_body", "no bytes")


def _pour(response: Response, decoder: "_Plain", kept: IO[bytes], max_bytes: int) -> int:
    """Write what comes, decoded, as it comes; return how many bytes came."""
    num_read = 0
    while chunk := response.read1(CHUNK_BYTES):
        num_read += len(chunk)
        if num_read > max_bytes:
            raise RefusedError("too_many_bytes", f"more than {max_bytes} bytes")
        for piece in decoder.feed(chunk):
            try:
                kept.write(piece)
            except OSError as error:
                raise SpoolError(f"what arrives cannot be kept: {error}") from error
    return num_read


def _promised(response: Response) -> int | None:
    """Return the length that a response promises; refuse one that can be framed in two ways (RFC 9112, 6.3)."""
    headers = response.headers
    if response.status == USUAL and isinstance(response, UsualResponse) and "content-range" not in headers:
        return response.num_promised
    if response.status in PARTIAL or "content-range" in headers:
        raise RefusedError("partial_body", f"status {response.status}, {headers.get('content-range')}: not the whole")
    codings = [part.strip().lower() for value in headers.get_all("transfer-encoding") for part in value.split(",")]
    if codings not in ([], ["chunked"], ["identity"]):
        raise RefusedError("bad_answer", f"transfer-encoding {codings}")
    lengths = {part.strip() for value in headers.get_all("content-length") for part in value.split(",")}
    if not lengths:
        return None
    length = length_in(next(iter(lengths)))
    if length is None or len(lengths) > 1:
        raise RefusedError("bad_answer", f"content-length {sorted(lengths)}: contradictory, or no number")
    return length


def _decoder(encoding: str, max_bytes: int) -> "_Plain":
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return _Plain()
    if name not in ("gzip", "x-gzip", "deflate"):
        raise RefusedError("bad_encoding", f"content-encoding {encoding!r} was not asked for")
    return _Inflate(max_bytes)


class _Plain:
    """Bytes as they come."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk decodes to, piece by piece."""
        yield chunk

    def finish(self) -> None:
        """Make sure that nothing is missing."""


class _Inflate(_Plain):
    """Undoes a compression that nobody asked for; the limit counts what comes out, and one member is all there may be.

    The rest of a body of several members would be lost on every reader that stops after the first; which of them a
    server means to be the picture, nobody can say.
    """

    def __init__(self, max_bytes: int) -> None:
        self._stream = zlib.decompressobj(GZIP_OR_ZLIB)
        self._room = max_bytes

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk decodes to, piece by piece."""
        while not self._stream.eof:
            piece = self._stream.decompress(chunk, CHUNK_BYTES)
            self._room -= len(piece)
            if self._room < 0:
                raise RefusedError("too_many_bytes", "unpacks to more than is allowed")
            yield piece
            chunk = self._stream.unconsumed_tail
            if not chunk and len(piece) < CHUNK_BYTES:
                break
        if (self._stream.unused_data + (chunk if self._stream.eof else b"")).strip(b"\0"):
            raise RefusedError("bad_encoding", "something follows the compressed body, such as a second member")

    def finish(self) -> None:
        """Make sure that nothing is missing."""
        if not self._stream.eof:
            raise RefusedError("truncated_body", "the compressed body ends early")
