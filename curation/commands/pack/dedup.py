"""One picture is kept once in a dataset, whatever the number of addresses and source shards that it came by.

Whether pictures that are nearly one count as one (`near_duplicates`), and which captions are fit to train on
(`caption_choice`), the recipe says.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from curation.commands.caption.beside import Places, captions_of_shard, places_of, reports_for
from curation.commands.caption.checks import digest_of
from curation.commands.caption.stage import captions_of_folder
from curation.commands.pack.caption_choice import (
    REPEATED,
    finds_repeats,
    repeated_captions,
    told_captions,
    without_fit_caption,
)
from curation.commands.pack.left_out import LeftOut, Position
from curation.commands.pack.near_duplicates import NEAR_DUPLICATE, near_duplicates_in
from curation.dataset.ledger import read_ledger
from curation.dataset.tombstones import Tombstones
from curation.errors import ShardError
from curation.measure.columns import CAPTIONS
from curation.recipe.recipe import Recipe
from curation.recipe.settings import CaptionSettings
from curation.storage.scratch import scratch_database

if TYPE_CHECKING:
    import duckdb

    from curation.dataset.manifest import Manifest

MEMORY_LIMIT = "1GB"
FACES, FACE_SIDE = "faces", "largest_face_side_px"
"""The filter and the score of it that say how large a picture's native face is."""
LOOK, HASHES = "look", ("phash", "fine_phash")
"""The filter and those of its evidence by which near duplicates are found."""
SAME = {"uid": "duplicate_uid", "sha256": "duplicate_bytes"}
"""What two samples may share -> the reason for which the lesser one stays out, in this order."""
LESSER_SQL = """
CREATE OR REPLACE TEMP TABLE lesser AS
SELECT shard, number FROM (
    SELECT shard, number, row_number() OVER (
        PARTITION BY {same} ORDER BY face_side DESC, num_captions DESC, uid, shard, number
    ) AS place
    FROM pictures WHERE {same} IN (SELECT {same} FROM pictures GROUP BY {same} HAVING count(*) > 1)
)
WHERE place > 1
"""
DELETE_SQL = """
DELETE FROM pictures USING lesser WHERE pictures.shard = lesser.shard AND pictures.number = lesser.number
"""


def duplicates_among(
    source: Path,
    curated: "Manifest",
    left_out: Mapping[Position, LeftOut] = MappingProxyType({}),
    told: Places = MappingProxyType({}),
) -> dict[Position, str]:
    """Return (shard, row) -> reason of every kept sample with a caption that a better one stands for.

    First of each uid, then of equal bytes, the sample with the largest native face is the best, then the one with the
    most captions, then the smaller uid, then the one that came first. Equal bytes have equal faces, so that the face
    decides between samples of one uid alone. Where the recipe has no faces, all are alike. Whoever `left_out` says has
    no fit caption stands for nobody. `told` says who has a new caption.
    """
    reasons: dict[Position, str] = {}
    numbers = {report.shard: number for number, report in enumerate(curated.shards)}
    with _pictures(source, curated, told, with_looks=False) as database:
        unfit = [(numbers[shard], row) for (shard, row), one in left_out.items() if one.is_unfit]
        _take_out(database, unfit)
        for same, reason in SAME.items():
            lesser = _without_lesser(database, same)
            reasons |= {(curated.shards[shard].shard, number): reason for shard, number in lesser}
    return reasons


def left_out_among(source: Path, curated: "Manifest", recipe: Recipe, stones: Tombstones) -> dict[Position, LeftOut]:
    """Return whom a recipe leaves out beside those of `duplicates_among`: by their captions, then for a better one.

    Who has no fit caption is out first and stands for nobody. How many share a text is counted over those who would be
    packed; where that makes a text unfit, all is chosen again without it. Of those who stay, the captions that too many
    share are named.
    Whom the tombstones hold is not packed, so that nobody stays out for them and their captions do not count.

    Raises:
        ShardError: a ledger lacks what is asked of a kept sample.
    """
    settings, captions, told = recipe.file.pack, recipe.file.captions, places_of(source, recipe)
    with _pictures(source, curated, told, with_looks=settings.near_duplicate_bits is not None) as database:
        held = list(_held(source, curated, stones))
        if captions is None:
            return _choose(database, curated, recipe, held)
        for shard, facts in _captions(source, curated, captions, recipe):
            _insert(database, "captions", facts, shard)
        database.execute("CREATE TABLE candidates AS FROM pictures")
        left_out = _choose(database, curated, recipe, held)
        while finds_repeats(database, captions):
            database.execute("CREATE OR REPLACE TABLE pictures AS FROM candidates")
            left_out = _choose(database, curated, recipe, held)
        for shard, number, places in repeated_captions(database):
            left_out[curated.shards[shard].shard, number] = LeftOut(REPEATED, captions=tuple(places))
    return left_out


def _choose(
    database: "duckdb.DuckDBPyConnection", curated: "Manifest", recipe: Recipe, held: Iterable[tuple[int, int]]
) -> dict[Position, LeftOut]:
    """Take out of `pictures` who has no fit caption, then all but the best of what is the same or nearly so.

    `held` are not near anybody.
    """
    names, settings = [report.shard for report in curated.shards], recipe.file.pack
    left_out: dict[Position, LeftOut] = {}
    if recipe.file.captions is not None:
        unfit = without_fit_caption(database)
        left_out |= {(names[shard], number): LeftOut(reason) for shard, number, reason in unfit}
    for same in SAME:
        _without_lesser(database, same)
    _take_out(database, held)
    if settings.near_duplicate_bits is not None:
        bits, fine_bits = settings.near_duplicate_bits, settings.near_duplicate_fine_bits
        near = dict(near_duplicates_in(database, bits, fine_bits))
        left_out |= {
            (names[one], number): LeftOut(NEAR_DUPLICATE, (names[other], best))
            for (one, number), (other, best) in near.items()
        }
        _take_out(database, near)
    return left_out


def _captions(
    source: Path, curated: "Manifest", settings: CaptionSettings, recipe: Recipe
) -> Iterator[tuple[int, pa.Table]]:
    """Yield the number of each shard, and what is to be known of its captions, a new one behind the others."""
    folder = captions_of_folder(source)
    replies = reports_for(source, recipe)
    for shard, report in enumerate(curated.shards):
        ledger = report.file(source, ".parquet")
        rows = read_ledger(ledger, ["uid", "kept", CAPTIONS]).to_pylist()
        new = captions_of_shard(folder, replies[report.shard]) if report.shard in replies else {}
        digests = {uid: digest_of(caption.text) for uid, caption in new.items()}
        yield shard, told_captions(rows, settings, ledger, digests)


@contextmanager
def _pictures(
    source: Path, curated: "Manifest", told: Places, *, with_looks: bool
) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Yield a database whose table `pictures` holds what is compared of every sample that may be packed."""
    has_faces = any(stanza["name"] == FACES for stanza in curated.recipe["filters"])
    hashes = "".join(f", {name} VARCHAR" for name in HASHES) if with_looks else ""
    new: dict[str, list[int]] = {}
    for name, row in told:
        new.setdefault(name, []).append(row)
    with scratch_database(MEMORY_LIMIT) as database:
        database.execute(
            "CREATE TABLE pictures (uid VARCHAR, sha256 VARCHAR, num_captions INTEGER, face_side DOUBLE, "
            f"shard INTEGER, number INTEGER{hashes})"
        )
        database.execute(
            "CREATE TABLE captions (shard INTEGER, number INTEGER, place INTEGER, digest VARCHAR, fault VARCHAR)"
        )
        database.execute("CREATE TABLE often (digest VARCHAR)")
        for shard, report in enumerate(curated.shards):
            rows = _rows(report.file(source, ".parquet"), has_faces, with_looks, new.get(report.shard, ()))
            _insert(database, "pictures", rows, shard)
        yield database


def _insert(database: "duckdb.DuckDBPyConnection", table: str, rows: pa.Table, shard: int) -> None:
    database.register("rows", rows)
    database.execute(f"INSERT INTO {table} BY NAME SELECT *, {shard} AS shard FROM rows")
    database.unregister("rows")


def _take_out(database: "duckdb.DuckDBPyConnection", places: Iterable[tuple[int, int]]) -> None:
    """Take out of `pictures` who has one of these shards and numbers."""
    shards, numbers = zip(*places, strict=True) if (places := list(places)) else ((), ())
    lesser = pa.table({"shard": pa.array(shards, pa.int32()), "number": pa.array(numbers, pa.int32())})
    database.register("lesser_places", lesser)
    database.execute("CREATE OR REPLACE TEMP TABLE lesser AS FROM lesser_places")
    database.unregister("lesser_places")
    database.execute(DELETE_SQL)


def _without_lesser(database: "duckdb.DuckDBPyConnection", same: str) -> list[tuple[int, int]]:
    """Take all but the best of those that share a column out of `pictures`; return their shards and numbers."""
    database.execute(LESSER_SQL.format(same=same))
    lesser: list[tuple[int, int]] = database.sql("SELECT shard, number FROM lesser").fetchall()
    database.execute(DELETE_SQL)
    return lesser


def _held(source: Path, curated: "Manifest", stones: Tombstones) -> Iterator[tuple[int, int]]:
    """Yield the shard and number of each whom the tombstones hold."""
    for shard, report in enumerate(curated.shards if stones else ()):
        rows = read_ledger(report.file(source, ".parquet"), ["uid", "url", "sha256"]).to_pylist()
        yield from ((shard, number) for number, row in enumerate(rows) if stones.hold_row(row))


def _rows(ledger: Path, has_faces: bool, with_looks: bool, new: Collection[int]) -> pa.Table:
    """Return what is compared of the samples of one shard that may be packed; the rows `new` have a new caption."""
    columns = ["uid", "sha256", "num_captions", "kept"]
    asked = [f"{FACES}_scores.{FACE_SIDE}"] * has_faces + [f"{LOOK}_evidence.{name}" for name in HASHES] * with_looks
    table = read_ledger(ledger, columns + asked)
    sides = pc.struct_field(table[f"{FACES}_scores"], FACE_SIDE) if has_faces else pa.nulls(len(table), pa.float64())
    table = table.append_column("face_side", pc.fill_null(sides, 0.0))
    table = table.append_column("number", pa.array(range(len(table)), pa.int32()))
    for name in HASHES * with_looks:
        table = table.append_column(name, pc.struct_field(table[f"{LOOK}_evidence"], name))
    has_caption = pc.or_(pc.greater(table["num_captions"], 0), pc.is_in(table["number"], pa.array(new, pa.int32())))
    table = table.filter(pc.and_(table["kept"], has_caption))
    if with_looks and table[HASHES[0]].null_count:
        raise ShardError(f"{ledger}: lacks the look of {table[HASHES[0]].null_count} samples that are kept")
    return table.select([*columns[:3], "face_side", "number", *(HASHES * with_looks)])
