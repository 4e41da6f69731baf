"""The only place that makes files appear: whole or not at all, and never claimed before they are durable."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEMP_FOLDER = "_tmp"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileRecord:
    """What a done record says of a file: its sha256 in hex and its size in bytes."""

    sha256: str
    num_bytes: int


def publish(path: Path, write: Callable[[Path], object]) -> FileRecord:
    """Let `write` fill a temporary file, make it durable, read it back, then rename it to `path`.

    Returns the record of the bytes that were read back. A crash at any point leaves either the old file or the
    new one at `path`, never a part; what is left in the temporary folder goes when the stage finishes.
    """
    temp_folder = path.parent / TEMP_FOLDER
    temp_folder.mkdir(parents=True, exist_ok=True)
    temp = temp_folder / f"{path.name}.{uuid.uuid4().hex}"
    try:
        write(temp)
        with temp.open("rb+") as file:
            os.fsync(file.fileno())
        record = record_of(temp)
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return record


def publish_json(path: Path, value: Any) -> FileRecord:
    """Publish `value` as canonical JSON: sorted keys, two spaces, one newline at the end."""
    text = json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n"
    return publish(path, lambda temp: _write_text(temp, text))


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_of(path: Path) -> FileRecord:
    """Return the record of a file as it lies on disk."""
    return FileRecord(sha256=sha256_of(path), num_bytes=path.stat().st_size)


def digest(value: Any) -> str:
    """Return the sha256 of `value` as canonical JSON, in hex: how recipes, settings and work are named."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
