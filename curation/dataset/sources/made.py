"""Tars that are made for the time of reading, of what is no tar: a packed one, files in a folder, rows of a table."""

import gzip
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from curation.dataset.sources.rows import members_of_rows
from curation.dataset.tar.headers import CHUNK_BYTES
from curation.dataset.tar.write import TarWriter
from curation.errors import ShardError
from curation.storage.paths import local_copy
from curation.storage.publish import refusing

MAX_RATIO, MIN_UNPACKED_BYTES = 100, 1 << 30
"""A packed tar may grow this many times, and to this size in any case."""


@dataclass(frozen=True)
class PackedTar:
    """A `.tar.gz`, unpacked into a temporary file."""

    name: str
    path: Path
    is_counted: bool = True

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yield the tar that it packs.

        Raises:
            ShardError: it is cut or damaged, or grows beyond all that pictures do.
            DiskFullError: there is no room for it.
        """
        with temporary(self.name) as tar, local_copy(self.path) as packed:
            limit = max(MIN_UNPACKED_BYTES, MAX_RATIO * packed.stat().st_size)
            with refusing(tar), tar.open("wb") as file:
                for chunk in self._chunks(packed):
                    file.write(chunk)
                    if file.tell() > limit:
                        raise ShardError(f"{self.path}: unpacks to more than {limit} bytes: no tar of pictures does")
            yield tar

    def _chunks(self, packed: Path) -> Iterator[bytes]:
        try:
            with gzip.open(packed) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk
        except (EOFError, OSError, zlib.error) as error:
            raise ShardError(f"{self.path}: not a whole .tar.gz: {error}") from error


@dataclass(frozen=True)
class FileShard:
    """Some files of a folder, as the members of a tar."""

    name: str
    path: Path
    """The folder."""
    members: tuple[tuple[str, str], ...]
    """Name in the tar, and path below the folder, of every file."""

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yield a tar of the files.

        Raises:
            ShardError: a file is gone, or has another size than a moment ago.
        """
        with temporary(self.name) as tar:
            with closing(TarWriter(tar)) as writer:
                for name, file in self.members:
                    self._add(writer, name, self.path / file)
            yield tar

    def _add(self, writer: TarWriter, name: str, path: Path) -> None:
        try:
            with local_copy(path) as local, local.open("rb") as file:
                writer.add_from(name, file, local.stat().st_size)
        except (OSError, ValueError) as error:
            raise ShardError(f"{path}: cannot be read: {error}") from error


@dataclass(frozen=True)
class RowShard:
    """Rows of one file of a table whose cells hold pictures."""

    name: str
    path: Path
    """The file."""
    first: int
    """Number of its first row in the file."""
    num_rows: int

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yield a tar of the rows.

        Raises:
            ShardError: the file cannot be read, or gives another number of rows than its footer says.
        """
        with temporary(self.name) as tar:
            with local_copy(self.path) as local:
                _write(tar, members_of_rows(local, self.path, self.first, self.num_rows))
            yield tar


@contextmanager
def temporary(name: str) -> Iterator[Path]:
    """Yield the name of a tar to write in a folder of its own, which goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="fchq-copy-", ignore_cleanup_errors=True) as folder:
        yield Path(folder, f"{name}.tar")


def _write(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    with closing(TarWriter(path)) as tar:
        for name, content in members:
            tar.add(name, content)
