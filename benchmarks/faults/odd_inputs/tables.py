"""Odd tables: text with every kind of odd line, Parquet of odd types or damaged, folders, for import and rank."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.faults.odd_inputs.case import Case
from curation.commands.importing.convert import Shape, import_metadata
from curation.commands.rank.stage import Safeguards, rank
from curation.dataset.ledger import read_ledger
from curation.errors import FaceCaptionError
from curation.recipe.recipe import Recipe, recipe_of

KIND = "tables"
MAX_ROWS = 40
HUGE = 1_200_000
REFUSALS = (1, 2, 6)
"""Exit codes of a table that is refused as a whole."""
ENDS = (b"\n", b"\r\n", b"\r")
PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
RECIPE = {"schema_version": 1, "name": "odd", "filters": [{"name": "colour"}]}
STRAYS = ("._a.parquet", ".DS_Store", "_SUCCESS", "_metadata", "README.md", "notes.tar")

FIELDS = {
    ".csv": (
        b"plain", b'"a, b"', b'"say ""so"""', b'"two\nlines"', b'"unclosed', b'in "the" middle', b'"shut" late', b'""',
        b"", b"caf\xe9", b"nul\0", b"007", b"NA", b"null", b"1e5", b"true", b" padded ", b"\xef\xbb\xbf", b"one,more",
    ),
    ".tsv": (
        b"plain", b'"unclosed', b'"', b'""', b"a, b", b"", b"caf\xe9", b"nul\0", b"007", b"NaN", b"\xff\xfe",
        b"one\tmore", b"\x1a", b"\xc2\x85",
    ),
}  # fmt: skip
"""What may stand in the second field; each is one row, whatever becomes of it."""
OBJECTS = (
    b'{"url": "http://a.org/1"}', b'{"url": null}', b"{not json", b"[1]", b"7", b'{"url": 7, "WIDTH": true}',
    b'{"URL": "http://a.org/2", "url": "http://a.org/3"}', b'{"url": "a", "url": "b"}', b'{"url": "\\ud800"}',
    b'{"url": "x", "SAMPLE_ID": 12345678901234567890}', b'{"url": "x", "WIDTH": 1e999}', b'{"url": "caf\xe9"}',
    b'{"url": ["http://a.org/4"], "nsfw": "porn"}', b'{"image_url": "http://a.org/5", "caption": ["x", null]}',
    b'{"url": "\\u0000"}', b"[" * 5000, b'{"url": NaN}', b'{"url": "x", "text": {"a": [1]}}',
)  # fmt: skip
COLUMNS = (
    "URL", "Url", "TEXT", "WIDTH", "HEIGHT", "NSFW", "Nsfw", "p_unsafe", "nsfw_score_opennsfw2", "similarity",
    "LICENSE", "SAMPLE_ID", "pwatermark", "sha256", "caption", "other",
)  # fmt: skip
VALUES: tuple[Callable[[int], pa.Array], ...] = (
    lambda n: pa.array([2**64 - 1] * n, pa.uint64()),
    lambda n: pa.array([2**60] * n),
    lambda n: pa.array([float("nan"), float("inf"), 0.5][: n % 3 + 1] * n)[:n],
    lambda n: pa.array([1] * n, pa.int8()),
    lambda n: pa.array(["x"] * n, pa.large_string()),
    lambda n: pa.array(["x"] * n, pa.string_view()),
    lambda n: pa.array(["unlikely"] * n).dictionary_encode(),
    lambda n: pa.array([b"\xff\0"] * n),
    lambda n: pa.array([b"\xff"] * n).view(pa.string()),
    lambda n: pa.array([["a", None]] * n, pa.large_list(pa.string())),
    lambda n: pa.array([["a", "b"]] * n, pa.list_(pa.string(), 2)),
    lambda n: pa.array([[1, 2]] * n),
    lambda n: pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int32())),
    lambda n: pa.array([{"a": b"\xff", "b": [1]}] * n),
    lambda n: pa.array([Decimal("1.50")] * n),
    lambda n: pa.array([datetime(2020, 1, 1, tzinfo=UTC)] * n),
    lambda n: pa.array([2**62] * n).cast(pa.timestamp("us")),
    lambda n: pa.array([True] * n),
    pa.nulls,
    lambda n: pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"\xff" * 16] * n, pa.binary(16))),
    lambda n: pa.array([f"http://a.org/{i}" for i in range(n)]),
)
"""Number of rows -> a column of a type that real files have."""


@dataclass(frozen=True)
class Table:
    """A file or folder, and the rows that were put there."""

    path: Path
    num_rows: int


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Yield `count` odd tables, each in a folder of its own; half of the Parquet goes through `rank`, too."""
    for number in range(count):
        chance = Random(f"{seed} {number}")
        name, make = MAKERS[number % len(MAKERS)]
        place = folder / f"{number:04d}"
        place.mkdir(parents=True)
        table = make(place, chance)
        run = ranked if name.startswith("rank") else imported
        yield Case(KIND, f"{name}-{number}", table.num_rows, partial(run, table, place))


def imported(table: Table, place: Path) -> int:
    """Import a table; the rows written and those counted as lost."""
    shape: Shape = "facecaption" if table.num_rows % 3 == 0 else "laion"
    try:
        result = import_metadata(str(table.path), place / "out.parquet", shape)
    except FaceCaptionError as error:
        return _refused(error, table, place)
    num_written: int = pq.read_metadata(place / "out.parquet").num_rows
    return num_written + sum(result.lost_rows.values())


def ranked(table: Table, place: Path) -> int:
    """Rank a table as LAION's side; the rows that the ledger accounts for."""
    faces = {"_id": ["f"], "caption": [["A face."]], "url": ["http://a.org/1"], "box": ["[0, 0, 9, 9]"]}
    pq.write_table(pa.table(faces), place / "faces.parquet")
    try:
        rank(place / "faces.parquet", table.path, place / "rank", _recipe(), Safeguards(waiver="generated"))
    except FaceCaptionError as error:
        return _refused(error, table, place)
    total = sum(read_ledger(place / "rank" / "ledger.parquet")["num_laion_rows"].to_pylist())
    return int(total)


def _recipe() -> Recipe:
    return recipe_of(RECIPE, "odd.toml")


def _refused(error: FaceCaptionError, table: Table, place: Path) -> int:
    """Return all rows where the refusal is clear: an exit code of refusals, one line, the table's name in it."""
    text = str(error)
    is_clear = error.exit_code in REFUSALS and "\n" not in text and str(place) in text
    return table.num_rows if is_clear else -1


def _delimited(suffix: str, place: Path, chance: Random) -> Table:
    separator = b"," if suffix == ".csv" else b"\t"
    lines = []
    num_rows = chance.randrange(MAX_ROWS)
    for row in range(num_rows):
        lines += [b""] * chance.choice((0, 0, 0, 2))
        field = b"x" * HUGE if chance.random() < 1 / 200 else chance.choice(FIELDS[suffix])
        short = chance.random() < 1 / 15
        lines.append(b"http://a.org/%d" % row + (b"" if short else separator + field))
    header = chance.choice((b"url", b"URL", b"Image URL")) + separator + chance.choice((b"text", b"nsfw", b"WIDTH"))
    return Table(_written(place / f"in{suffix}", _joined([header, *lines], chance), chance), num_rows)


def _json_lines(place: Path, chance: Random) -> Table:
    objects = [OBJECTS[0], *chance.choices(OBJECTS, k=chance.randrange(MAX_ROWS))]
    return Table(_written(place / "in.jsonl", _joined(objects, chance), chance), len(objects))


def _list(place: Path, chance: Random) -> Table:
    urls = [
        chance.choice((b"http://a.org/%d", b" http://a.org/%d ", b'"http://a.org/%d', b"caf\xe9 %d", b"\0%d")) % n
        for n in range(chance.randrange(1, MAX_ROWS))
    ]
    return Table(_written(place / "in.TXT", _joined(urls, chance), chance), len(urls))


def _joined(lines: Sequence[bytes], chance: Random) -> bytes:
    """End the lines by one kind of line end or all, the last perhaps by none, perhaps behind a byte order mark."""
    ends = ENDS if chance.random() < 1 / 4 else (chance.choice(ENDS),)
    text = b"".join(line + chance.choice(ends) for line in lines)
    return chance.choice((b"", b"\xef\xbb\xbf")) + (text if chance.random() < 1 / 2 else text.rstrip(b"\r\n"))


def _written(path: Path, content: bytes, chance: Random) -> Path:
    packer = chance.choice(("", "", "", *PACKERS))
    path = path.with_name(chance.choice((path.name, path.name.upper())) + packer)
    path.write_bytes(PACKERS[packer](content) if packer else content)
    return path


def _parquet(place: Path, chance: Random, name: str = "in.parquet") -> Table:
    """Write columns of odd types, of which some may have one name, beside a sound column of URLs."""
    num_rows = chance.randrange(1, MAX_ROWS)
    names = chance.choices(COLUMNS, k=chance.randrange(1, 8))
    columns = [chance.choice(VALUES)(num_rows) for _ in names]
    table = pa.table([pa.array([f"http://a.org/{n}" for n in range(num_rows)]), *columns], names=["url", *names])
    pq.write_table(table, place / name, row_group_size=chance.choice((3, 100)))
    return Table(place / name, num_rows)


def _laion(place: Path, chance: Random) -> Table:
    """Write LAION's columns, of which some have odd types or other cases."""
    num_rows = chance.randrange(1, MAX_ROWS)
    urls, texts = (pa.array([f"{prefix}{n}" for n in range(num_rows)]) for prefix in ("http://a.org/", "text "))
    numbers = pa.array([float(n) for n in range(num_rows)])
    columns = {"URL": urls, "TEXT": texts, "WIDTH": numbers, "HEIGHT": numbers, "similarity": numbers}
    columns |= {"LICENSE": texts, "SAMPLE_ID": pa.array(range(num_rows)), "NSFW": pa.array(["UNLIKELY"] * num_rows)}
    for name in chance.choices(tuple(columns), k=2):
        columns[name] = chance.choice(VALUES)(num_rows)
    change = chance.choice((str.lower, str.upper, str))
    pq.write_table(pa.table({change(name): column for name, column in columns.items()}), place / "in.parquet")
    return Table(place / "in.parquet", num_rows)


def _damaged(make: Callable[[Path, Random], Table], place: Path, chance: Random) -> Table:
    """Flip one to three bits, or cut the end off."""
    table = make(place, chance)
    content = bytearray(table.path.read_bytes())
    if chance.random() < 1 / 5:
        del content[chance.randrange(len(content)) :]
    else:
        for _ in range(chance.choice((1, 1, 3))):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    table.path.write_bytes(content)
    return table


def _folder(place: Path, chance: Random) -> Table:
    """Write several tables of other columns each, with strays beside them."""
    folder = place / chance.choice(("in", "a?b", "a#b", "a%20b", "[x]", "a*b", "é", "url=5", "a'b"))
    folder.mkdir()
    num_rows = 0
    for number in range(chance.randrange(1, 4)):
        name = f"{number}{chance.choice(('.parquet', '.PARQUET'))}"
        num_rows += _parquet(folder, chance, name).num_rows
    lines = [json.dumps({chance.choice(("url", "Url", "link")): f"http://a.org/{n}"}) for n in range(5)]
    (folder / "more.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for stray in chance.sample(STRAYS, k=3):
        (folder / stray).write_bytes(b"stray")
    return Table(folder, num_rows + len(lines))


MAKERS: Sequence[tuple[str, Callable[[Path, Random], Table]]] = (
    ("csv", partial(_delimited, ".csv")),
    ("tsv", partial(_delimited, ".tsv")),
    ("jsonl", _json_lines),
    ("txt", _list),
    ("parquet", _parquet),
    ("damaged", partial(_damaged, _parquet)),
    ("folder", _folder),
    ("rank", _laion),
    ("rank-damaged", partial(_damaged, _laion)),
)
