"""One picture is kept once in a dataset, whatever the number of addresses and source shards that it came by.

Whether pictures that are nearly one count as one (`near_duplicates`), and which captions are fit to train on
(`caption_choice`), the recipe says.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from curation.commands.caption.beside import Places, captions_of_shard, reports_for
from curation.commands.caption.checks import digest_of
from curation.commands.caption.stage import captions_of_folder
from curation.commands.pack.caption_choice import REPEATED, SPARED_SQL, finds_repeats, take_out_unfit, told_captions
from curation.commands.pack.forgotten_copies import FACE_SIDE, FACES, copies_in, face_sides, has_faces_in, rows_of
from curation.commands.pack.near_duplicates import NEAR_DUPLICATE, near_duplicates_in
from curation.dataset.ledger import read_ledger
from curation.dataset.tombstones import Tombstones
from curation.errors import ShardError
from curation.measure.columns import CAPTIONS
from curation.recipe.recipe import Recipe
from curation.recipe.settings import CaptionSettings
from curation.storage.scratch import insert

if TYPE_CHECKING:
    import duckdb

    from curation.dataset.manifest import Manifest

LOOK, HASHES = "look", ("phash", "fine_phash")
"""The filter and those of its evidence by which near duplicates are found."""
SAME = {"uid": "duplicate_uid", "sha256": "duplicate_bytes"}
"""What two samples may share -> the reason for which the lesser one stays out, in this order."""
CREATE_SQL = """
CREATE TABLE everyone (
    uid VARCHAR, sha256 VARCHAR, num_captions INTEGER, face_side DOUBLE, shard INTEGER, number INTEGER{hashes}
);
CREATE TABLE captions (shard INTEGER, number INTEGER, place INTEGER, digest VARCHAR, fault VARCHAR);
CREATE TABLE often (digest VARCHAR);
CREATE TABLE held (shard INTEGER, number INTEGER);
CREATE TABLE duplicates (shard INTEGER, number INTEGER, reason VARCHAR)
"""
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
DELETE_SQL = "DELETE FROM pictures USING {out} AS o WHERE pictures.shard = o.shard AND pictures.number = o.number"
UNFIT = "(SELECT shard, number FROM left_out WHERE of_shard IS NULL AND len(captions) = 0)"
"""Who has no fit caption, of those whom a recipe leaves out."""


def fill(
    database: "duckdb.DuckDBPyConnection", source: Path, curated: "Manifest", told: Places, *, with_looks: bool
) -> None:
    """Put what is compared of every sample that may be packed into the table `everyone`; make the tables besides.

    Forgotten copies stand among them, so that one of them holds the place that it had. `told` says who has a new
    caption.

    Raises:
        ShardError: a ledger lacks what is compared.
    """
    has_faces, copies = has_faces_in(curated), copies_in(source)
    hashes = "".join(f", {name} VARCHAR" for name in HASHES) if with_looks else ""
    database.execute(CREATE_SQL.format(hashes=hashes))
    rows = (
        _numbered(_rows(report.file(source, ".parquet"), has_faces, with_looks, told(report.shard)), shard)
        for shard, report in enumerate(curated.shards)
    )
    insert(database, "INSERT INTO everyone BY NAME FROM came", rows)
    forgotten = (
        _numbered(rows_of(report.file(source, ".parquet"), copies[report.shard], told(report.shard)), shard)
        for shard, report in enumerate(curated.shards)
        if report.shard in copies
    )
    insert(database, "INSERT INTO everyone BY NAME FROM came", forgotten)


def find_duplicates(database: "duckdb.DuckDBPyConnection") -> None:
    """Name in the table `duplicates` every sample of `everyone` that a better one stands for, and the reason.

    First of each uid, then of equal bytes, the sample with the largest native face is the best, then the one with the
    most captions, then the smaller uid, then the one that came first. Equal bytes have equal faces, so that the face
    decides between samples of one uid alone. Where the recipe has no faces, all are alike. Who has no fit caption by
    the table `left_out` stands for nobody.
    """
    database.execute("CREATE OR REPLACE TABLE pictures AS FROM everyone")
    database.execute(DELETE_SQL.format(out=UNFIT))
    for same, reason in SAME.items():
        _take_out_lesser(database, same)
        database.execute("INSERT INTO duplicates SELECT shard, number, ? FROM lesser", [reason])


def leave_out(
    database: "duckdb.DuckDBPyConnection", source: Path, curated: "Manifest", recipe: Recipe, stones: Tombstones
) -> None:
    """Name in the table `left_out` whom a recipe leaves out beside duplicates: for their captions, or for a better one.

    Who has no fit caption is out first and stands for nobody. How many share a text is counted over those who would be
    packed; where that makes a text unfit, all is chosen again without it. Of those who stay, the captions that too many
    share are named.
    Whom the tombstones hold is not packed, so that nobody stays out for them and their captions do not count.

    Raises:
        ShardError: a ledger lacks what is asked of a kept sample.
    """
    settings = recipe.file.captions
    insert(database, "INSERT INTO held FROM came", _held(source, curated, stones))
    if settings is not None:
        insert(database, "INSERT INTO captions BY NAME FROM came", _captions(source, curated, settings, recipe))
    _choose(database, recipe)
    while settings is not None and finds_repeats(database, settings):
        _choose(database, recipe)
    if settings is not None:
        database.execute(
            f"INSERT INTO left_out SELECT shard, number, '{REPEATED}', NULL, NULL, places FROM ({SPARED_SQL})"
        )


def _choose(database: "duckdb.DuckDBPyConnection", recipe: Recipe) -> None:
    """Take out of `pictures` who has no fit caption, then all but the best of what is the same or nearly so.

    Those in `held` are not near anybody.
    """
    settings = recipe.file.pack
    database.execute("CREATE OR REPLACE TABLE pictures AS FROM everyone; DELETE FROM left_out")
    if recipe.file.captions is not None:
        take_out_unfit(database)
        database.execute("INSERT INTO left_out SELECT shard, number, reason, NULL, NULL, [] FROM unfit")
    for same in SAME:
        _take_out_lesser(database, same)
    database.execute(DELETE_SQL.format(out="held"))
    if settings.near_duplicate_bits is not None:
        near_duplicates_in(database, settings.near_duplicate_bits, settings.near_duplicate_fine_bits)
        database.execute(
            f"INSERT INTO left_out SELECT shard, number, '{NEAR_DUPLICATE}', of_shard, of_number, [] FROM near"
        )
        database.execute(DELETE_SQL.format(out="near"))


def _captions(source: Path, curated: "Manifest", settings: CaptionSettings, recipe: Recipe) -> Iterator[pa.Table]:
    """Yield what is to be known of the captions of each shard, a new one behind the others."""
    folder = captions_of_folder(source)
    replies = reports_for(source, recipe)
    for shard, report in enumerate(curated.shards):
        ledger = report.file(source, ".parquet")
        rows = read_ledger(ledger, ["uid", "kept", CAPTIONS]).to_pylist()
        new = captions_of_shard(folder, replies[report.shard]) if report.shard in replies else {}
        digests = {uid: digest_of(caption.text) for uid, caption in new.items()}
        yield _numbered(told_captions(rows, settings, ledger, digests), shard)


def _numbered(rows: pa.Table, shard: int) -> pa.Table:
    return rows.append_column("shard", pa.array([shard] * len(rows), pa.int32())).replace_schema_metadata()


def _take_out_lesser(database: "duckdb.DuckDBPyConnection", same: str) -> None:
    """Take all but the best of those that share a column out of `pictures`, and name them in `lesser`."""
    database.execute(LESSER_SQL.format(same=same))
    database.execute(DELETE_SQL.format(out="lesser"))


def _held(source: Path, curated: "Manifest", stones: Tombstones) -> Iterator[pa.Table]:
    """Yield the shard and number of each whom the tombstones hold."""
    for shard, report in enumerate(curated.shards if stones else ()):
        rows = read_ledger(report.file(source, ".parquet"), ["uid", "url", "sha256"]).to_pylist()
        numbers = [number for number, row in enumerate(rows) if stones.hold_row(row)]
        yield pa.table({"shard": pa.array([shard] * len(numbers), pa.int32()), "number": pa.array(numbers, pa.int32())})


def _rows(ledger: Path, has_faces: bool, with_looks: bool, new: Collection[int]) -> pa.Table:
    """Return what is compared of the samples of one shard that may be packed; the rows `new` have a new caption."""
    columns = ["uid", "sha256", "num_captions", "kept"]
    asked = [f"{FACES}_scores.{FACE_SIDE}"] * has_faces + [f"{LOOK}_evidence.{name}" for name in HASHES] * with_looks
    table = read_ledger(ledger, columns + asked)
    table = table.append_column("face_side", face_sides(table, has_faces=has_faces))
    table = table.append_column("number", pa.array(range(len(table)), pa.int32()))
    for name in HASHES * with_looks:
        table = table.append_column(name, pc.struct_field(table[f"{LOOK}_evidence"], name))
    has_caption = pc.or_(
        pc.greater(table["num_captions"], 0), pc.is_in(table["number"], pa.array(list(new), pa.int32()))
    )
    table = table.filter(pc.and_(table["kept"], has_caption))
    if with_looks and table[HASHES[0]].null_count:
        raise ShardError(f"{ledger}: lacks the look of {table[HASHES[0]].null_count} samples that are kept")
    return table.select([*columns[:3], "face_side", "number", *(HASHES * with_looks)])
