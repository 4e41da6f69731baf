"""The bytes of a picture by its uid, as they came; nothing here decodes them, and nothing but a raster picture leaves.

Where pictures lie is found out shard by shard: for the one that is asked for at once, for the others by whoever calls
`read_all`, who also brings the captions that can be searched then.
"""

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import IO

import pyarrow as pa

from curation.commands.curate.examine import clean
from curation.commands.review.archives import BytesPlace, Found, samples_in_folder, samples_in_tar
from curation.commands.review.folder import CuratedShard, Reviewed
from curation.commands.review.table import NEVER_SHOWN, RowTable
from curation.dataset.ledger import read_ledger
from curation.dataset.sources.made import FileShard
from curation.errors import FaceCaptionError
from curation.images.signatures import name_of
from curation.storage.paths import local_copy

NUM_OPEN = 4
"""Copies of shards that are no local tars which are kept at a time."""
TABLES = """
    CREATE TABLE places (id BIGINT, kept BOOLEAN, file VARCHAR, start BIGINT, num_bytes BIGINT, sha256 VARCHAR);
    CREATE TABLE captions (id BIGINT, text VARCHAR);
"""
PREFIXES = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"))
NAMED = {"gif": "image/gif", "avif": "image/avif", "bmp": "image/bmp"}


class Pictures:
    """Finds and reads the pictures of a curated folder; several threads may ask."""

    def __init__(self, reviewed: Reviewed, table: RowTable) -> None:
        """Know of no place yet."""
        self._reviewed, self._table = reviewed, table
        self._read: set[int] = set()
        self._walking, self._opening = Lock(), Lock()
        self._open: OrderedDict[tuple[int, bool], tuple[ExitStack, Path]] = OrderedDict()
        table.database.cursor().execute(TABLES)

    @property
    def fraction_read(self) -> float:
        """Return the share of shards whose captions can be searched."""
        return len(self._read) / max(len(self._reviewed.shards), 1)

    def read_all(self, is_over: Event) -> None:
        """Read where everything lies, and every caption, until all is read or it is over."""
        for number in range(len(self._reviewed.shards)):
            if is_over.is_set():
                return
            self._read_shard(number)

    def captions(self, number: int) -> list[str]:
        """Return the captions of a row."""
        self._read_shard(self._shard_of(number))
        rows = self._table.ask("SELECT text FROM captions WHERE id = ?", [number])
        return rows[0][0].split("\n") if rows and rows[0][0] else []

    def picture(self, uid: str) -> tuple[bytes, str] | str:
        """Return a picture's bytes and content type, or why there are none."""
        rows = self._table.ask("SELECT id, shard, rejected_by FROM rows WHERE uid = ? AND is_first", [uid])
        if not rows:
            return "no such picture"
        ((number, shard, rejected_by),) = rows
        if rejected_by in NEVER_SHOWN:
            return f"not shown: {rejected_by}"
        self._read_shard(shard)
        places = self._table.ask("SELECT kept, file, start, num_bytes, sha256 FROM places WHERE id = ?", [number])
        if not places and self._reviewed.shards[shard].source is None:
            return "its shard is not here; name what was curated with --source"
        for kept, file, start, num_bytes, sha256 in places:
            content = self._bytes(shard, kept, BytesPlace(file, start, num_bytes))
            if hashlib.sha256(content).hexdigest() == sha256:
                kind = content_type(content)
                return (content, kind) if kind is not None else "no picture that a page may show"
        return "its shard does not hold it"

    def _shard_of(self, number: int) -> int:
        return int(self._table.ask("SELECT shard FROM rows WHERE id = ?", [number])[0][0])

    def _read_shard(self, number: int) -> None:
        if number in self._read:
            return
        with self._walking:
            if number not in self._read:
                self._walk(number)
                self._read.add(number)

    def _walk(self, number: int) -> None:
        """Add a shard's places and captions to the tables; what cannot be read has none."""
        shard = self._reviewed.shards[number]
        ((first,),) = self._table.ask("SELECT min(id) FROM rows WHERE shard = ?", [number])
        rows = read_ledger(shard.ledger, ["uid", "key", "sha256", "kept"]).to_pylist()
        waiting: dict[tuple[bool, str], list[tuple[int, str]]] = defaultdict(list)
        for place, row in enumerate(rows):
            name = row["uid"] if row["kept"] else row["key"]
            waiting[row["kept"], name].append((first + place, row["sha256"]))
        places: list[tuple[object, ...]] = []
        captions: dict[int, str] = {}
        for kept in (True, False):
            for found in self._samples(number, shard, kept) if any(kept == one for one, _ in waiting) else ():
                for row_id, sha256 in waiting.get((kept, found.key if kept else clean(found.key)), ()):
                    captions.setdefault(row_id, found.captions)
                    places += [(row_id, kept, one.file, one.start, one.num_bytes, sha256) for one in found.pictures]
        self._insert("places", zip(*places, strict=True))
        self._insert("captions", (captions.keys(), captions.values()))

    def _insert(self, name: str, columns: Iterable[Iterable[object]]) -> None:
        arrays = [pa.array(list(column)) for column in columns]
        if arrays and len(arrays[0]):
            cursor = self._table.database.cursor()
            cursor.register("found", pa.table(arrays, names=[str(number) for number in range(len(arrays))]))
            cursor.execute(f"INSERT INTO {name} FROM found")

    def _samples(self, number: int, shard: CuratedShard, kept: bool) -> Iterator[Found]:
        try:
            if not kept and isinstance(shard.source, FileShard):
                yield from samples_in_folder(shard.source)
            elif kept or shard.source is not None:
                with self._opened(number, kept) as file:
                    yield from samples_in_tar(Path(file.name), shard.tar)
        except (FaceCaptionError, OSError):
            return

    def _bytes(self, number: int, kept: bool, place: BytesPlace) -> bytes:
        source = self._reviewed.shards[number].source
        try:
            if place.file and source is not None:
                return (source.path / place.file).read_bytes()
            with self._opened(number, kept) as file:
                file.seek(place.start)
                return file.read(place.num_bytes)
        except (FaceCaptionError, OSError):
            return b""

    @contextmanager
    def _opened(self, number: int, kept: bool) -> Iterator[IO[bytes]]:
        """Yield a shard's tar; copies of those that are none here stay for a while."""
        with self._opening:
            if (number, kept) not in self._open:
                stack = ExitStack()
                self._open[number, kept] = stack, stack.enter_context(self._tar(number, kept))
            self._open.move_to_end((number, kept))
            file = self._open[number, kept][1].open("rb")
            while len(self._open) > NUM_OPEN:
                self._open.popitem(last=False)[1][0].close()
        with file:
            yield file

    def _tar(self, number: int, kept: bool) -> AbstractContextManager[Path]:
        shard = self._reviewed.shards[number]
        if kept or shard.source is None:
            return local_copy(shard.tar)
        return shard.source.opened()

    def close(self) -> None:
        """Remove the copies."""
        with self._opening:
            while self._open:
                self._open.popitem()[1][0].close()


def content_type(content: bytes) -> str | None:
    """Return the type of a raster picture that browsers show, by its bytes alone; None for anything else."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    known = next((kind for prefix, kind in PREFIXES if content.startswith(prefix)), None)
    return known or NAMED.get(name_of(content) or "")
