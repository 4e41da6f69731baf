"""Ranking happens before anything is downloaded: join both metadata sources by URL, pass the gates, keep the best.

The unit of this stage is the image (uid), not the metadata row: rows of one image on either side are counted in
`num_facecaption_rows` and `num_laion_rows`, whose sums over the ledger equal the input rows.
Rows go to buckets of uids first and are joined bucket by bucket, so that memory does not grow with the input.
"""

import logging
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commands.rank.blindness import look
from curation.commands.rank.cleaning import Counts, clean_facecaption, clean_laion, clean_release, num_buckets_for
from curation.commands.rank.gates import Blocklist, read_blocklist
from curation.commands.rank.growth import GROWN, Generation, generations, grown_before, require_growing, require_grown
from curation.commands.rank.join import Cut, hold_own, join, names_owners, opened, rest, selected
from curation.commands.rank.own_gates import own_rules
from curation.commands.rank.streams import file_digests, left_out, num_rows_of
from curation.dataset.ledger import BASE_FIELDS, LEDGER_SCHEMA_VERSION
from curation.dataset.manifest import MANIFEST_NAME, Manifest, ShardReport, committed, read_manifest
from curation.dataset.rights import RIGHTS_COLUMN
from curation.dataset.stages import BLOCKED_NAME, FORGET, FORGOTTEN, LEDGER_NAME, RANK
from curation.dataset.tombstones import consult
from curation.recipe.settings import RankSettings
from curation.run.shard_writer import commit_report
from curation.run.target import Facts, claimed, finish
from curation.storage.paths import named
from curation.storage.publish import TEMP_FOLDER, FileRecord, digest, is_there, publish

if TYPE_CHECKING:
    import duckdb

    from curation.recipe.recipe import Recipe

log = logging.getLogger(__name__)

LEDGER = Path(LEDGER_NAME).stem
"""Name of the one shard."""
NUM_LEDGER_GROUP_ROWS = 100_000

LEDGER_SCHEMA = pa.schema(
    [*BASE_FIELDS, pa.field("num_facecaption_rows", pa.int32()), pa.field("num_laion_rows", pa.int32())]
)
SELECTION_SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("facecaptions", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("nsfw", pa.string()),
        pa.field("punsafe", pa.float64()),
        pa.field("similarity", pa.float64()),
        pa.field("license", pa.string()),
        pa.field("sample_id", pa.string()),
    ]
)
OWNED_SCHEMA = SELECTION_SCHEMA.append(pa.field(RIGHTS_COLUMN, pa.string()))
"""The same where a source says more than a licence of whose a picture is: every column of the kind, as JSON."""


@dataclass(frozen=True)
class Safeguards:
    """What an image must be held against before it is downloaded, beside the recipe's own gates."""

    release: Path | None = None
    """Parquet with a column URL or url: a cleaned release of the metadata; what is not in it is left out."""
    blocklists: Sequence[Path] = ()
    """Text files of URLs, domains and hashes, one a line."""
    waiver: str | None = None
    """Why gates may let everything pass that no row has a value for; recorded."""


def rank(  # long: what it promises, and its steps in order
    facecaption: Path,
    laion: Path,
    target: Path,
    recipe: "Recipe",
    safeguards: Safeguards = Safeguards(),
    detections: Path | None = None,
    grow: int | None = None,
) -> Manifest:
    """Select images from FaceCaption-shaped and LAION-shaped parquet and write the selection to `target`.

    `facecaption` and `laion` are parquet files or folders of them. Ledger and selection depend on the rows alone,
    never on their order. `detections` is parquet of faces by SAMPLE_ID, which count before
    FaceCaption's boxes. A finished target of the same inputs and settings is left as it is, unless `grow` says how many
    of the next rows below its cut are admitted (`curation.commands.rank.growth`).

    Raises:
        UsageError: an input is missing, is no parquet or lacks a column, or `target` holds other work; or it is to grow
            and has not ended, or has no cut; or it was interrupted as it grew.
        PluginError: a gate of `rank.gates.own` is not there, or asks what is no condition.
        SafetyError: a gate has no column to judge by, and there is no waiver.
        LeaseError: another run holds `target`.
    """
    target, settings = named(target), recipe.file.rank
    blocklist = read_blocklist(safeguards.blocklists)
    own = own_rules(settings.gates.own)
    inputs = _digests(facecaption, laion, safeguards, blocklist, detections)
    if own:
        inputs["own_gates"] = list(dict.fromkeys(f"{rule.gate.name}: {rule.gate.source}" for rule in own))
    work_id = rank_work(settings, inputs)
    with claimed(target, RANK, work_id, recipe) as lease:
        before = read_manifest(target, RANK.name) if (target / MANIFEST_NAME).is_file() else None
        if grow is None and before is not None and (done := committed(target, LEDGER, work_id)) is not None:
            require_grown(before, done, target)
            log.info("%s already holds this selection", target)
            return before
        if grow is not None:
            require_growing(before, settings.top, target)
        grown = (*grown_before(before), *(() if grow is None else (grow,)))
        temp = target / TEMP_FOLDER / uuid.uuid4().hex
        temp.mkdir(parents=True)
        try:
            with opened(temp) as database:
                hold_own(database, own)
                cleaned = _clean(database, temp, facecaption, laion, safeguards.release, detections)
                sight = look(database, temp, settings.gates, safeguards.waiver)
                join(database, temp, settings, blocklist, cleaned.num_buckets, cleaned.has_release, sight.blind, own)
                selection = tuple(generations(database, settings.top, grown))
                known = {} if before is None else dict(before.shards[0].files)
                report, duplicates = _write(database, temp, target, settings, work_id, selection, known)
        finally:
            shutil.rmtree(temp)  # of this attempt alone: nobody who took over relies on it
        commit_report(target, lease, report)
        release = None if safeguards.release is None else _named(safeguards.release, inputs["release"])
        if grow is not None and len(selection) <= len(grown):
            log.warning("%s: fewer rows than asked for, or none, were left below the cut", target)
        cut = selection[-1].cut if selection else None
        extra = {"inputs": inputs, **_facts(cleaned, duplicates, settings, cut), "release": release, **sight.facts}
        extra |= {GROWN: list(grown)} if grown else {}
        return finish(
            target, RANK, recipe, work_id, [report], Facts(files=_blocked(target, blocklist), extra=extra), lease
        )


def _facts(
    cleaned: "_Cleaned", duplicates: Mapping[str, int], settings: RankSettings, cut: Cut | None
) -> dict[str, Any]:
    """Return what the manifest says of the rows that came, and where the selection ends."""
    counts = cleaned.counts
    return {
        **{f"num_{source}_rows": found.num_rows for source, found in counts.items()},
        "faults": {name: {**found.faults, "duplicate_row": duplicates[name]} for name, found in counts.items()},
        "fault_examples": {name: dict(found.examples) for name, found in counts.items()},
        "left_out": cleaned.left_out,
        "cut": {} if cut is None else {"key": settings.key, "value": cut.value, "uid": cut.uid},
    }


def _blocked(target: Path, blocklist: Blocklist) -> dict[str, FileRecord]:
    """Write what `fetch` must not follow a redirect to, where there is such a thing."""
    table = blocklist.table()
    if not table.num_rows:
        return {}
    write = partial(pq.write_table, table, compression="zstd", version="2.6")
    return {BLOCKED_NAME: publish(target / BLOCKED_NAME, write)}


def _digests(
    facecaption: Path, laion: Path, safeguards: Safeguards, blocklist: Blocklist, detections: Path | None
) -> dict[str, Any]:
    """Return what names every input that is given."""
    inputs: dict[str, Any] = {"facecaption": file_digests(facecaption), "laion": file_digests(laion)}
    if safeguards.release is not None:
        inputs["release"] = file_digests(safeguards.release)
    if detections is not None:
        inputs["detections"] = file_digests(detections)
    if blocklist != Blocklist():
        inputs["blocklist"] = blocklist.digest
    return inputs


@dataclass(frozen=True)
class _Cleaned:
    """Both sources in buckets, and what was found wrong with their rows."""

    num_buckets: int
    counts: Mapping[str, Counts]
    """By source: `facecaption`, `laion`."""
    left_out: Mapping[str, Mapping[str, str]]
    """Source -> name in its folder -> why it is not read."""
    has_release: bool
    """Whether a cleaned release lies beside them."""


def _clean(
    database: "duckdb.DuckDBPyConnection",
    temp: Path,
    facecaption: Path,
    laion: Path,
    release: Path | None,
    detections: Path | None,
) -> _Cleaned:
    """Write every source to buckets below `temp`; LAION first, since FaceCaption may name its rows by SAMPLE_ID."""
    buckets = num_buckets_for(num_rows_of(facecaption) + num_rows_of(laion))
    counts = {"laion": clean_laion(database, laion, temp / "laion", buckets, detections)}
    folders = temp / "facecaption", temp / "laion"
    counts["facecaption"] = clean_facecaption(database, facecaption, *folders, buckets)
    if release is not None:
        clean_release(database, release, temp / "release", buckets)
    for name, found in counts.items():
        for fault, example in found.examples.items():
            log.warning("%s: %s: %d (first: %s)", name, fault, found.faults[fault], example)
    return _Cleaned(
        num_buckets=buckets,
        counts={name: counts[name] for name in ("facecaption", "laion")},
        left_out=_left_out({"facecaption": facecaption, "laion": laion}),
        has_release=release is not None,
    )


def _left_out(sources: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Return what lies beside the tables and is not read, and say so."""
    found = {name: left_out(source) for name, source in sources.items()}
    for name, source in sources.items():
        for file, why in found[name].items():
            log.warning("%s: not read: %s: %s", source, file, why)
    return {name: files for name, files in found.items() if files}


def _named(source: Path, digests: Mapping[str, str]) -> dict[str, str]:
    """Return what names an input on any machine: the last part of its path, and the digest of its files' sha256s."""
    return {"name": named(source).name, "digest": digest(dict(digests))}


def rank_work(settings: RankSettings, inputs: Mapping[str, Any]) -> str:
    """Return the digest of all that a selection depends on: the settings, the sha256s of the inputs, this stage."""
    return digest([RANK.name, settings.model_dump(mode="json"), inputs, RANK.output_since])


def _write(
    database: "duckdb.DuckDBPyConnection",
    temp: Path,
    target: Path,
    settings: RankSettings,
    work_id: str,
    selection: Sequence[Generation],
    known: Mapping[str, FileRecord],
) -> tuple[ShardReport, Counter[str]]:
    """Write the parts and the ledger; return the done record and how many rows repeated an image, by source.

    Parts that are `known` and there stay as they are.
    """
    files: dict[str, FileRecord] = {}
    schema = LEDGER_SCHEMA.with_metadata(_footer(settings))
    tally, stones = _Tally(), consult(target)
    columns = OWNED_SCHEMA if names_owners(database) else SELECTION_SCHEMA
    kept = temp / "kept.parquet"
    with pq.ParquetWriter(kept, schema, compression="zstd", compression_level=1) as writer:
        for part, table in _parts(database, selection, settings.rows_per_part):
            keyed = table.append_column("key", pa.array(_keys(part, table.num_rows, settings.rows_per_part)))
            name = f"{part:05d}.parquet"
            chosen = stones.without(keyed.select(columns.names).cast(columns))
            files[name] = _published(target / name, chosen, known.get(name))
            writer.write_table(tally.count(stones.bury(_kept_rows(keyed, schema))))

    def write_ledger(path: Path) -> None:
        with pq.ParquetWriter(path, schema, compression="zstd", version="2.6") as ledger:
            for batch in pq.ParquetFile(kept).iter_batches(NUM_LEDGER_GROUP_ROWS):
                ledger.write_batch(batch)
            for table in rest(database, temp, selection[-1].cut if selection else None, NUM_LEDGER_GROUP_ROWS):
                ledger.write_table(tally.count(stones.bury(table.cast(schema))))

    files[LEDGER_NAME] = publish(target / LEDGER_NAME, write_ledger)
    num_kept, num_forgotten = tally.reasons.pop(None, 0), tally.reasons.pop(FORGOTTEN, 0)
    counts = {reason: count for reason, count in sorted(tally.reasons.items()) if reason is not None}
    by = {FORGET: {FORGOTTEN: num_forgotten} if num_forgotten else {}, RANK.name: counts}
    rejected = {name: reasons for name, reasons in by.items() if reasons}
    report = ShardReport(LEDGER, work_id, num_kept + num_forgotten + sum(counts.values()), num_kept, rejected, files)
    return report, tally.duplicates


def _published(path: Path, part: pa.Table, known: FileRecord | None) -> FileRecord:
    """Write a part, unless the one that is known is there."""
    if known is not None and is_there(path, known):
        return known
    return publish(path, partial(pq.write_table, part, compression="zstd", version="2.6"))


def _parts(
    database: "duckdb.DuckDBPyConnection", selection: Sequence[Generation], rows_per_part: int
) -> Iterator[tuple[int, pa.Table]]:
    """Yield the number and the rows of every part, generation by generation."""
    for generation in selection:
        for part, table in enumerate(selected(database, generation.condition, rows_per_part)):
            yield generation.part_number(part), table


def is_selection(schema: pa.Schema) -> bool:
    """Whether a table has the columns of a part of the selection."""
    return any(schema.equals(known) for known in (SELECTION_SCHEMA, OWNED_SCHEMA))


class _Tally:
    """Counts the rows of the ledger as they are written."""

    def __init__(self) -> None:
        self.reasons: Counter[str | None] = Counter()
        self.duplicates: Counter[str] = Counter({"facecaption": 0, "laion": 0})

    def count(self, table: pa.Table) -> pa.Table:
        """Count the rows of a table and return it."""
        for pair in pc.value_counts(table["reason"].combine_chunks()).to_pylist():
            self.reasons[pair["values"]] += pair["counts"]
        for source in self.duplicates:
            rows = table[f"num_{source}_rows"]
            self.duplicates[source] += pc.sum(pc.max_element_wise(pc.subtract(rows, 1), 0)).as_py() or 0
        return table


def _keys(part: int, num_rows: int, rows_per_part: int) -> list[str]:
    num_digits = len(str(rows_per_part - 1))
    return [f"{part:05d}{row:0{num_digits}d}" for row in range(num_rows)]


def _kept_rows(selection: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the ledger's rows of a part."""
    num_rows = selection.num_rows
    constants = {"kept": pa.array([True]).take(pa.array([0] * num_rows))}
    columns = [
        constants[field.name]
        if field.name in constants
        else selection[field.name].cast(field.type)
        if field.name in selection.schema.names
        else pa.nulls(num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _footer(settings: RankSettings) -> dict[str, str]:
    return {
        "schema_version": LEDGER_SCHEMA_VERSION,
        "stage": RANK.name,
        "recipe_digest": digest(settings.model_dump(mode="json")),
        "measurement_keys": "{}",
        "code_version": RANK.output_since,
    }
