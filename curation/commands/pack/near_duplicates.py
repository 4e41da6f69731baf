"""Pictures that are nearly one are packed once: by their pHashes, exact within a radius, at any number of pictures.

Two hashes of 64 bits that differ in at most r of them agree in all bits of at least B - r of any B bands (pigeonhole),
so every near pair shares one of the C(B, r) keys that leave r bands out (Manku, Jain and Das Sarma, WWW 2007). DuckDB
joins by each key; what it joins is compared in full. Then, best picture first, whoever is not out yet stays, and all
that are near it are out. So everyone who is out is near one who stays, and no two who stay are near: no chain of
likenesses leads from one picture to another.
"""

import math
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import pyarrow as pa

from curation.storage.scratch import insert

if TYPE_CHECKING:
    import duckdb

NEAR_DUPLICATE = "near_duplicate"
"""Reason: a better picture that is nearly the same one is packed; the ledger's `duplicate_of` is its uid."""
NUM_BITS = 64
NUM_WORDS = 4
"""Of 64 bits each, of the fine hash."""
MIN_SET_BITS, MAX_SET_BITS = 24, 40
"""A pHash has half its bits set; one with fewer or more is of a picture without any pattern, and near nothing."""
MAX_BANDS = 16
LOOKS_SQL = """
CREATE OR REPLACE TEMP TABLE looks AS
SELECT row_number() OVER (ORDER BY face_side DESC, num_captions DESC, uid, shard, number) AS place, shard, number,
    ('0x' || phash)::UBIGINT AS phash, {words}
FROM pictures WHERE bit_count(('0x' || phash)::UBIGINT) BETWEEN {least} AND {most};
CREATE OR REPLACE TEMP TABLE nodes AS SELECT min(place) AS place, phash, {names} FROM looks GROUP BY phash, {names};
CREATE OR REPLACE TABLE pairs (better BIGINT, worse BIGINT);
"""
PAIRS_SQL = """
INSERT INTO pairs SELECT better.place, worse.place FROM nodes AS better JOIN nodes AS worse
ON (better.phash & {key}::UBIGINT) = (worse.phash & {key}::UBIGINT) AND better.place < worse.place
WHERE bit_count(xor(better.phash, worse.phash)) <= {bits} AND {fine} <= {fine_bits}
"""
OUT_SQL = """
CREATE OR REPLACE TABLE near AS
SELECT one.shard, one.number, other.shard AS of_shard, other.number AS of_number
FROM looks AS one JOIN nodes USING (phash, {names}) LEFT JOIN settled ON nodes.place = settled.worse
JOIN looks AS other ON other.place = coalesce(settled.better, nodes.place)
WHERE one.place <> other.place
"""
NUM_PAIRS = 100_000
"""Pairs that are in memory at a time."""
_SETTLED = pa.schema([("worse", pa.int64()), ("better", pa.int64())])
_NAMES = tuple(f"fine{i}" for i in range(NUM_WORDS))


def near_duplicates_in(database: "duckdb.DuckDBPyConnection", bits: int, fine_bits: int) -> None:
    """Name in the table `near` who is out (shard, number), each with the better one that stays (of_shard, of_number).

    The table `pictures` (uid, num_captions, face_side, shard, number, phash, fine_phash) holds who is compared. Two are
    near whose hashes differ in at most `bits` of 64 and `fine_bits` of 256. The best has the largest face, then the
    most captions, then the smaller uid, then came first; of several that stay, one is out for the best.
    """
    words = [f"('0x' || fine_phash[{16 * i + 1}:{16 * i + 16}])::UBIGINT AS {name}" for i, name in enumerate(_NAMES)]
    names = ", ".join(_NAMES)
    fine = " + ".join(f"bit_count(xor(better.{name}, worse.{name}))::INTEGER" for name in _NAMES)
    create = LOOKS_SQL.format(words=", ".join(words), names=names, least=MIN_SET_BITS, most=MAX_SET_BITS)
    database.execute(create)
    num_nodes, num_looks = _count(database, "nodes"), _count(database, "looks")
    for key in keys(bits, num_nodes):
        database.execute(PAIRS_SQL.format(key=key, bits=bits, fine=fine, fine_bits=fine_bits))
    database.execute("CREATE OR REPLACE TABLE settled (worse BIGINT, better BIGINT)")
    insert(database, "INSERT INTO settled FROM came", _settled(database, num_looks))
    database.execute(OUT_SQL.format(names=names))


def _count(database: "duckdb.DuckDBPyConnection", table: str) -> int:
    ((num_rows,),) = database.execute(f"SELECT count(*) FROM {table}").fetchall()
    return int(num_rows)


def _settled(database: "duckdb.DuckDBPyConnection", num_looks: int) -> Iterator[pa.Table]:
    """Yield who is out for whom, by place: better ones come first, so each is settled when its turn comes.

    A byte for each picture is all that is held.
    """
    is_out = bytearray(num_looks + 1)
    pairs = database.cursor().execute("SELECT DISTINCT better, worse FROM pairs ORDER BY better, worse")
    while batch := pairs.fetchmany(NUM_PAIRS):
        out: list[tuple[int, int]] = []
        for better, worse in batch:
            if not is_out[better] and not is_out[worse]:
                is_out[worse] = 1
                out.append((worse, better))
        yield pa.table({"worse": [w for w, _ in out], "better": [b for _, b in out]}, _SETTLED)


def keys(bits: int, num_nodes: int) -> list[int]:
    """Return masks of 64 bits, of which any two hashes that differ in at most `bits` agree under at least one.

    The number of bands is that which makes the fewest rows and candidates, were hashes drawn by lot.
    """

    def cost(num_bands: int) -> float:
        key_bits = NUM_BITS * (num_bands - bits) / num_bands
        return math.comb(num_bands, bits) * (num_nodes + num_nodes**2 / 2 ** (key_bits + 1))

    num_bands = min(range(bits + 1, max(bits + 2, MAX_BANDS + 1)), key=cost)
    edges = [NUM_BITS * i // num_bands for i in range(num_bands + 1)]
    bands = [(1 << high) - (1 << low) for low, high in pairwise(edges)]
    return [sum(bands) - sum(left_out) for left_out in combinations(bands, bits)]
