"""Where everyone of a curated folder goes: into which final shard, or out, and why. All of it follows from the ledgers.

What depends on who else is there, a database finds out (`dedup`); the rest is done a window of source shards at a time,
and what comes of it waits on disk. So memory does not grow with the number of rows.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from curation.commands.caption.beside import Places, nobody
from curation.commands.pack import left_out
from curation.commands.pack.dedup import fill, find_duplicates, leave_out
from curation.commands.pack.left_out import leaves_out, recorded
from curation.commands.pack.placement import Chunk, Placed, cut
from curation.commands.pack.rows import DUPLICATE_OF, SCHEMA, rejected_row, vacant_row
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest, ShardReport
from curation.dataset.redaction import buried
from curation.dataset.stages import FORGET
from curation.dataset.tombstones import Tombstones
from curation.recipe.recipe import Recipe
from curation.storage.scratch import MEMORY_LIMIT, database_in, fetched, insert, scratch_folder
from curation.storage.spilled import Spilled

if TYPE_CHECKING:
    import duckdb

NO_TOMBSTONES = Tombstones()
SHARDS = pa.schema([("shard", pa.int32()), ("name", pa.string())])
NAMED = pa.schema([("shard", pa.int32()), ("number", pa.int32()), ("uid", pa.string())])
BETTER_SQL = "SELECT DISTINCT of_shard, of_number FROM left_out WHERE of_shard IS NOT NULL ORDER BY ALL"
ASIDE_SQL = """
SELECT shard, number, coalesce(d.reason, CASE WHEN len(l.captions) = 0 THEN l.reason END) AS reason,
    l.captions AS captions, named.uid AS better
FROM left_out AS l FULL JOIN duplicates AS d USING (shard, number)
LEFT JOIN named ON named.shard = l.of_shard AND named.number = l.of_number
ORDER BY shard, number
"""
SEEN_COLUMNS = ("uid", "url", "sha256", "width", "height", "kept", "rejected_by", "format", "num_bytes", "num_captions")
"""What placing reads of a curated ledger."""


class Aside(NamedTuple):
    """What is to be known of a sample beside its own row."""

    reason: str | None
    """Why it is not packed; None: it is."""
    captions: tuple[int, ...]
    """Places of its captions with which it is not."""
    better: str | None
    """The uid of the one that is packed for it, where the two are nearly the same."""


NOTHING = Aside(None, (), None)


@dataclass(frozen=True)
class PackChoice:
    """Whom a pack does not take, or not with all captions: what only the whole folder tells."""

    source: Path
    curated: Manifest
    told: Places
    database: "duckdb.DuckDBPyConnection"
    asides: Spilled[int, dict[int, Aside]]

    def of(self, shard: int) -> dict[int, Aside]:
        """Return what is to be known of the rows of a curated shard, by the shard's place in the manifest."""
        return self.asides.get(shard, {})


@contextmanager
def chosen(
    source: Path,
    curated: Manifest,
    recipe: Recipe | None = None,
    told: Places = nobody,
    target: Path | None = None,
    packed: Manifest | None = None,
    stones: Tombstones = NO_TOMBSTONES,
) -> Iterator[PackChoice]:
    """Find out whom a pack does not take.

    Whom the recipe leaves out, `target` says itself once it has begun (`packed` is its manifest, if known), else the
    curated ledgers; nobody is out for one whom the tombstones hold. Without a recipe it leaves out nobody. `told` says
    who has a new caption.

    Raises:
        ShardError: a ledger lacks what is asked of a kept sample.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("choice"))
        database = stack.enter_context(database_in(folder, MEMORY_LIMIT))
        names = [{"shard": shard, "name": report.shard} for shard, report in enumerate(curated.shards)]
        database.execute("CREATE TABLE shards (shard INTEGER, name VARCHAR)")
        insert(database, "INSERT INTO shards FROM came", [pa.Table.from_pylist(names, SHARDS)])
        database.execute(left_out.CREATE_SQL)
        asks = recipe if recipe is not None and leaves_out(recipe) else None
        is_known = asks is None or (target is not None and recorded(database, target, packed))
        with_looks = asks is not None and not is_known and asks.file.pack.near_duplicate_bits is not None
        fill(database, source, curated, told, with_looks=with_looks)
        if asks is not None and not is_known:
            leave_out(database, source, curated, asks, stones)
        find_duplicates(database)
        database.execute("CREATE TABLE named (shard INTEGER, number INTEGER, uid VARCHAR)")
        insert(database, "INSERT INTO named FROM came", _better_ones(database, source, curated))
        asides = stack.enter_context(Spilled[int, dict[int, Aside]](folder / "asides"))
        for shard, rows in groupby(fetched(database, ASIDE_SQL), itemgetter(0)):
            asides.put(shard, {number: Aside(why, tuple(out or ()), better) for _, number, why, out, better in rows})
        yield PackChoice(source, curated, told, database, asides)


def _better_ones(database: "duckdb.DuckDBPyConnection", source: Path, curated: Manifest) -> Iterator[pa.Table]:
    """Yield the uids of those for whom others are out, as the ledgers have them now."""
    for shard, numbers in fetched(database, f"SELECT of_shard, list(of_number) FROM ({BETTER_SQL}) GROUP BY of_shard"):
        uids = read_ledger(curated.shards[shard].file(source, ".parquet"), ["uid"])["uid"]
        named = {"shard": [shard] * len(numbers), "number": numbers, "uid": uids.take(pa.array(numbers, pa.int64()))}
        yield pa.table(named, NAMED)


@dataclass(frozen=True)
class PackPlan:
    """What goes where; all that is as long as the rows are waits on disk."""

    chunks: Spilled[str, Chunk]
    """The final shards of which anything is left."""
    vacant: Spilled[str, Chunk]
    """Those that would hold forgotten samples alone: they are not written."""
    left: Spilled[str, list[dict[str, Any]]]
    """By source shard, the ledger rows of those that stay out."""
    shards: Sequence[str]
    """The source shards in the order of the manifest."""
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(rejected_by, reason) -> number of rows that are in no final shard."""

    def rest(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the ledger rows of all that are in no final shard, by source shard, then those of vacant ones."""
        yield from (self.left[shard] for shard in self.shards)
        yield from ([vacant_row(seat) for seat in seats] for _, seats in self.vacant)


@contextmanager
def planned(choice: PackChoice, recipe: Recipe, stones: Tombstones = NO_TOMBSTONES) -> Iterator[PackPlan]:
    """Place everyone, for as long as the block lasts; the choice may end before."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("pack"))
        chunks, vacant, left = (stack.enter_context(Spilled[Any, Any](folder / name)) for name in ("in", "none", "out"))
        numbers = {report.shard: number for number, report in enumerate(choice.curated.shards)}
        plan = PackPlan(chunks, vacant, left, list(numbers))

        def seats(shard: str) -> list[Placed]:
            placed, out = placed_of(choice, numbers[shard], stones)
            plan.left.put(shard, out)
            plan.rejected.update((row["rejected_by"], row["reason"]) for row in out)
            return placed

        for shard, chunk in cut(numbers, seats, recipe.file.pack):
            is_vacant = all(seat.is_forgotten for seat in chunk)
            (plan.vacant if is_vacant else plan.chunks).put(shard, (shard, chunk))
            plan.rejected.update((FORGET, "forgotten") for _ in chunk if is_vacant)
        yield plan


def placed_of(
    choice: PackChoice, shard: int, stones: Tombstones = NO_TOMBSTONES
) -> tuple[list[Placed], list[dict[str, Any]]]:
    """Return the samples of a source shard to pack, in order of row, and the ledger rows of those that stay out.

    Of several samples of one picture the best is packed; a sample without any caption is of no use to a text-to-image
    trainer. What was kept and then forgotten holds its place, if it had one.
    """
    report = choice.curated.shards[shard]
    placed: list[Placed] = []
    rejected: list[dict[str, Any]] = []
    asides, told, any_held = choice.of(shard), choice.told(report.shard), bool(stones)
    for row in _rows(choice.source, report, stones):
        number = row["number"]
        aside = asides.get(number, NOTHING)
        is_held = any_held and stones.hold(row["uid"], row["url"], row["sha256"])
        is_forgotten = row["rejected_by"] == FORGET or is_held
        if not (row["kept"] or (is_forgotten and row["format"] is not None)):
            continue
        reason = aside.reason if row["num_captions"] or number in told else "no_caption"
        if reason is None:
            placed.append(_seat(row, report.shard, is_forgotten, aside, told.get(number, "")))
            continue
        out = rejected_row(row, report.shard, reason)
        if aside.better is not None and not is_forgotten:
            out[DUPLICATE_OF.name] = aside.better
        rejected.append(buried(out, SCHEMA) if is_forgotten else out)
    return placed, rejected


def _seat(row: Mapping[str, Any], shard: str, is_forgotten: bool, aside: Aside, told: str) -> Placed:
    size, image_format = row["num_bytes"] or 0, sys.intern(row["format"])
    return Placed(row["uid"], shard, row["number"], image_format, size, is_forgotten, aside.captions, told)


def _rows(source: Path, report: ShardReport, stones: Tombstones) -> list[Mapping[str, Any]]:
    """Return the rows of a curated ledger of which any may be packed, or has been, each with its number."""
    table = read_ledger(report.file(source, ".parquet"), list(SEEN_COLUMNS))
    table = table.append_column("number", pa.array(range(len(table)), pa.int32()))
    if not stones:
        was_forgotten = pc.fill_null(pc.equal(table["rejected_by"], FORGET), False)
        table = table.filter(pc.or_(table["kept"], was_forgotten))
    rows: list[Mapping[str, Any]] = table.to_pylist()
    return rows
