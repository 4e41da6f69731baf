"""A further generation of a finished fetch: rows that failed for a reason that passes with time, asked for once more.

A generation is shards of its own, numbered behind those that are there, so nothing that was fetched changes: `curate`
adds them as it adds any new shard. A row that failed keeps its row in the shard where it did, and has another one
where it was asked for again; its last one counts. Which rows a generation asks for stands in `again-NNN.parquet`, by
uid, as ledgers name them. The generation follows from the manifest before it, so one that was killed goes on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commands.fetch.outcomes import RETRYABLE
from curation.commands.fetch.politeness import PART_DEADLINE
from curation.dataset.ledger import read_ledger, write_table
from curation.dataset.manifest import Manifest
from curation.dataset.stages import FETCH, FORGET
from curation.errors import UsageError, VerificationError
from curation.recipe.validation import choices
from curation.storage.publish import FileRecord, digest, publish, sha256_of

AGAIN = "again"
"""Key of the manifest's `extra`: every generation after the first, oldest first."""
PASSING = RETRYABLE | {PART_DEADLINE, "connection", "too_slow", "truncated_body"}
"""Reasons that may have passed when a run is finished; all others are the picture's, its host's or the law's word."""
SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("shard", "part", "uid")])


@dataclass(frozen=True)
class AskedAgain:
    """One shard of a further generation: which rows of which parts of the selection it asks for, in order."""

    shard: str
    rows: tuple[tuple[str, str], ...]
    """The name of the part, and the uid."""

    @property
    def identity(self) -> str:
        """What stands for the part's sha256 in the identity of its work: who is asked for."""
        return digest([AGAIN, [uid for _, uid in self.rows]])


def reasons_of(only: Sequence[str]) -> frozenset[str]:
    """Return the reasons that are meant, all that may pass where none is named.

    Raises:
        UsageError: one of them does not pass with time.
    """
    named = frozenset(reason.strip() for text in only for reason in text.split(",") if reason.strip())
    if wrong := sorted(named - PASSING):
        raise UsageError(f"--only {wrong[0]}: not a reason that passes with time; {choices(wrong[0], sorted(PASSING))}")
    return named or PASSING


def asked_before(target: Path, manifest: Manifest | None) -> tuple[AskedAgain, ...]:
    """Return the shards of all further generations that a manifest names, oldest first.

    Raises:
        VerificationError: a file that says what one asked for is not as it was written.
    """
    shards: list[AskedAgain] = []
    for name, record in files_before(manifest).items():
        if not (target / name).is_file() or sha256_of(target / name) != record.sha256:
            raise VerificationError(f"{target / name}: not as it was written; it says what was asked for again")
        shards += _shards(pq.read_table(target / name, partitioning=None))
    return tuple(shards)


def next_generation(
    target: Path, manifest: Manifest, reasons: frozenset[str], num_part_rows: int
) -> tuple[AskedAgain, ...]:
    """Return the shards of the generation that follows: rows whose last outcome is one of these reasons."""
    failing = list(_failing(target, manifest, reasons))
    first = 1 + max(int(report.shard) for report in manifest.shards)
    chunks = [failing[start : start + num_part_rows] for start in range(0, len(failing), num_part_rows)]
    return tuple(AskedAgain(f"{first + number:05d}", tuple(rows)) for number, rows in enumerate(chunks))


def publish_generation(
    target: Path, before: Manifest, asked: Sequence[AskedAgain], reasons: frozenset[str]
) -> tuple[dict[str, FileRecord], list[dict[str, Any]]]:
    """Write which rows a generation asked for, and return its file, and what the manifest says of all generations."""
    told = list(before.extra.get(AGAIN, []))
    name = f"again-{len(told) + 2:03d}.parquet"
    rows = [{"shard": one.shard, "part": part, "uid": uid} for one in asked for part, uid in one.rows]
    write = partial(write_table, table=pa.Table.from_pylist(rows, schema=SCHEMA), footer={"stage": FETCH.name})
    record = publish(target / name, write)
    generation = {"file": name, "reasons": sorted(reasons), "shards": [one.shard for one in asked]}
    return {name: record}, [*told, generation]


def files_before(manifest: Manifest | None) -> dict[str, FileRecord]:
    """Return the records of the files that say what earlier generations asked for."""
    generations = [] if manifest is None else manifest.extra.get(AGAIN, [])
    return {} if manifest is None else {entry["file"]: manifest.files[entry["file"]] for entry in generations}


def num_asked_again(manifest: Manifest) -> int:
    """Return how many of the rows that a fetch saw stand there once more, those that were forgotten left out."""
    again = {shard for generation in manifest.extra.get(AGAIN, ()) for shard in generation["shards"]}
    reports = [report for report in manifest.shards if report.shard in again]
    return sum(report.num_seen - sum(report.rejected.get(FORGET, {}).values()) for report in reports)


def _failing(target: Path, manifest: Manifest, reasons: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield part and uid of every row whose last outcome is one of the reasons, in order of shard and row."""
    parts: dict[tuple[str, str], str] = {}
    last: dict[str, str] = {}
    for one in asked_before(target, manifest):
        for part, uid in one.rows:
            parts[one.shard, uid], last[uid] = part, one.shard
    for report in sorted(manifest.shards, key=lambda report: int(report.shard)):
        table = read_ledger(report.file(target, ".parquet"), ["uid", "rejected_by", "reason"])
        meant = pc.and_(
            pc.equal(table["rejected_by"], FETCH.name), pc.is_in(table["reason"], pa.array(sorted(reasons)))
        )
        for uid in table.filter(meant)["uid"].to_pylist():
            if last.get(uid, report.shard) == report.shard:
                yield parts.get((report.shard, uid), report.shard), uid


def _shards(table: pa.Table) -> Iterator[AskedAgain]:
    rows: dict[str, list[tuple[str, str]]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["shard"], []).append((row["part"], row["uid"]))
    for shard, asked in rows.items():
        yield AskedAgain(shard, tuple(asked))


def sources_of(parts: Mapping[str, FileRecord], asked: AskedAgain) -> dict[str, FileRecord]:
    """Return the records of the parts that a shard's rows stand in, by file name."""
    names = dict.fromkeys(f"{part}.parquet" for part, _ in asked.rows)
    return {name: parts[name] for name in names}
