"""What the pictures are, beside what was thought of them: sizes, faces, poses, captions, licences, hosts, copies."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.commands.report.choice import token_of
from curation.commands.report.flow import FinishedStage
from curation.commands.report.ledgers import column_names, ledger_paths
from curation.dataset.caption_facts import facts_of_all
from curation.dataset.captions import captions_of
from curation.dataset.ledger import ledger_batches
from curation.dataset.rights import rights_of
from curation.dataset.stages import PACK
from curation.dataset.tar import read_samples
from curation.errors import ShardError

NUM_SAMPLED, NUM_SAMPLED_SHARDS = 200, 20
"""Kept pictures whose texts are read from the curated tars, and out of how many of these."""
NUM_LISTED = 10
MAX_CAPTION_CHARACTERS = 2000
HOST = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(?P<host>[^/:?#]+)"
SIDES, FACES = (0, 256, 384, 512, 768, 1024, 1536), (0, 64, 96, 128, 192, 256, 384, 512)
YAWS = (-180, -50, -30, -15, 15, 30, 50)
WORDS = (0, 1, 3, 6, 11, 21, 41, 81)


@dataclass(frozen=True)
class PropertyRow:
    """One row of a part: so many pictures (or captions) are like this."""

    label: str
    num_seen: int
    num_kept: int


@dataclass(frozen=True)
class Property:
    """How pictures are spread over one property."""

    name: str
    note: str
    slices: tuple[PropertyRow, ...]
    has_seen: bool = True
    """Whether those that were turned away are counted, too."""


@dataclass
class _Bins:
    """Counts of a number by range, for all and for those kept."""

    edges: tuple[int, ...]
    counts: Any = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((2, len(self.edges)), dtype=np.int64)

    def add(self, values: Any, kept: Any) -> None:
        """Count values, NaN where there is none."""
        known = np.isfinite(values)
        places = np.searchsorted(self.edges, values[known], "right") - 1
        inside = places >= 0
        for number, chosen in enumerate((inside, inside & kept[known])):
            self.counts[number] += np.bincount(places[chosen], minlength=len(self.edges))

    def part(self, name: str, unit: str, note: str) -> Property:
        """Return the ranges that hold anything, and those between them."""
        labels = [f"{low} to {high - 1} {unit}" for low, high in pairwise(self.edges)] + [f"{self.edges[-1]} {unit} up"]
        rows = [PropertyRow(label, int(n), int(k)) for label, n, k in zip(labels, *self.counts, strict=True)]
        filled = [i for i, row in enumerate(rows) if row.num_seen]
        return Property(name, note, tuple(rows[filled[0] : filled[-1] + 1] if filled else ()))


def composition_of(curated: FinishedStage, stages: Sequence[FinishedStage]) -> tuple[Property, ...]:
    """Return every part of which the ledgers, or the texts of some kept pictures, say anything.

    Raises:
        ShardError: a ledger cannot be read.
    """
    ledgers = ledger_paths(curated.folder, curated.manifest)
    parts = [*_measured(ledgers), *_captions(curated, ledgers), _hosts(ledgers), _copies(stages), _packed(stages)]
    return tuple(part for part in parts if part.slices)


def _measured(ledgers: Sequence[Path]) -> list[Property]:
    names = column_names(ledgers[0]) if ledgers else []
    wanted = {
        "shorter side": (("width", "height"), _Bins(SIDES), "px", "of every picture that could be decoded"),
        "largest face": (
            ("faces_scores.largest_face_side_px",), _Bins(FACES), "px", "shorter side of the largest face's box",
        ),
        "turn of the head": (
            ("joint_scores.yaw_deg",), _Bins(YAWS), "°", "to the viewer's right; below 0 left; 90 with no face",
        ),
    }  # fmt: skip
    fields = {name: _fields(ledgers, name) for name in names if name.endswith("_scores")}
    asked = {
        name: (columns, bins, unit, note)
        for name, (columns, bins, unit, note) in wanted.items()
        if all(
            c.partition(".")[0] in names and c.partition(".")[2] in fields.get(c.partition(".")[0], [""])
            for c in columns
        )
    }
    if not asked:
        return []
    columns = ["kept", *dict.fromkeys(column for own, *_ in asked.values() for column in own)]
    for path in ledgers:
        for batch in ledger_batches(path, columns):
            kept = batch.column("kept").to_numpy(zero_copy_only=False)
            for own, bins, _, _ in asked.values():
                values = [_numbers(batch, column) for column in own]
                bins.add(np.minimum.reduce(values), kept)
    return [bins.part(name, unit, note) for name, (_, bins, unit, note) in asked.items()]


def _fields(ledgers: Sequence[Path], column: str) -> list[str]:
    import pyarrow.parquet as pq

    kind = pq.read_schema(ledgers[0]).field(column).type
    return [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []


def _numbers(batch: pa.RecordBatch, column: str) -> Any:
    name, _, inner = column.partition(".")
    values = batch.column(name)
    values = pc.struct_field(values, inner) if inner else values
    return pc.fill_null(pc.cast(values, pa.float64()), float("nan")).to_numpy(zero_copy_only=False)


def _captions(curated: FinishedStage, ledgers: Sequence[Path]) -> list[Property]:
    """Return how long captions are and in which language, and what is said of rights, by the texts of some pictures."""
    lengths, languages, licences = _Bins(WORDS), Counter[str](), Counter[str]()
    num = 0
    for stem, uids in _sampled(ledgers).items():
        report = next(r for r in curated.manifest.shards if r.file(curated.folder, ".parquet").stem == stem)
        try:
            for sample in read_samples(report.file(curated.folder, ".tar"), uids):
                num += 1
                licences[rights_of(sample.metadata).license or "says nothing"] += 1
                facts = facts_of_all(captions_of(sample.caption, sample.metadata), MAX_CAPTION_CHARACTERS)
                for one in facts:
                    lengths.add(np.array([float(one.num_words)]), np.array([True]))
                    languages[one.language] += 1
        except ShardError:
            continue  # `verify` names what is wrong with it
    note = f"captions of {num:,} kept pictures, a seeded choice"
    of = f"{num:,} kept pictures, a seeded choice"
    long = lengths.part("caption length", "words", note)
    return [
        Property(long.name, long.note, long.slices, has_seen=False),
        Property("caption language", note, _listed(languages), has_seen=False),
        Property("licence", of, _listed(licences), has_seen=False),
    ]


def _sampled(ledgers: Sequence[Path]) -> dict[str, set[str]]:
    """Return the uids of some kept pictures by the stem of their ledger, out of few shards."""
    few = sorted(ledgers, key=lambda path: token_of(path.stem))[:NUM_SAMPLED_SHARDS]
    ranked: list[tuple[bytes, str, str]] = []
    for path in few:
        for batch in ledger_batches(path, ["uid", "kept"]):
            kept = batch.filter(batch.column("kept")).column("uid").to_pylist()
            ranked += [(token_of(uid), path.stem, uid) for uid in kept]
        ranked = sorted(ranked)[:NUM_SAMPLED]
    chosen: dict[str, set[str]] = {}
    for _, stem, uid in ranked:
        chosen.setdefault(stem, set()).add(uid)
    return dict(sorted(chosen.items()))


def _hosts(ledgers: Sequence[Path]) -> Property:
    seen, kept = Counter[str](), Counter[str]()
    for path in ledgers:
        for batch in ledger_batches(path, ["url", "kept"]):
            hosts = pc.struct_field(pc.extract_regex(batch.column("url"), HOST), "host")
            for counter, chosen in ((seen, hosts), (kept, hosts.filter(batch.column("kept")))):
                for pair in pc.value_counts(pc.utf8_lower(chosen)).to_pylist():
                    if pair["values"] is not None:
                        counter[pair["values"]] += pair["counts"]
    most = sorted(seen, key=lambda host: (-seen[host], host))
    rows = [PropertyRow(host, seen[host], kept[host]) for host in most[:NUM_LISTED]]
    if rest := most[NUM_LISTED:]:
        rows.append(PropertyRow(f"{len(rest):,} others", sum(seen[h] for h in rest), sum(kept[h] for h in rest)))
    return Property("host", f"{len(seen):,} hosts in all", tuple(rows))


def _copies(stages: Sequence[FinishedStage]) -> Property:
    counts = {
        f"{reason} ({stage.name})": count
        for stage in stages
        for reason, count in stage.manifest.rejected.get(stage.name, {}).items()
        if "duplicate" in reason and reason != "duplicate_key"
    }
    rows = tuple(PropertyRow(label, count, 0) for label, count in sorted(counts.items()))
    return Property("copies", "pictures that a better or earlier copy stands for", rows)


def _packed(stages: Sequence[FinishedStage]) -> Property:
    """Return the licences of all that is packed, whose ledger has a column for it."""
    packed = next((stage for stage in stages if stage.name == PACK.name), None)
    counts = Counter[str]()
    for path in ledger_paths(packed.folder, packed.manifest) if packed is not None else ():
        if "license" in column_names(path):
            for batch in ledger_batches(path, ["license", "kept"]):
                for pair in pc.value_counts(batch.filter(batch.column("kept")).column("license")).to_pylist():
                    counts[pair["values"] or "says nothing"] += pair["counts"]
    return Property("licence of what is packed", "all packed pictures", _listed(counts), has_seen=False)


def _listed(counts: Mapping[str, int]) -> tuple[PropertyRow, ...]:
    most = sorted(counts, key=lambda name: (-counts[name], name))
    rows = [PropertyRow(name, counts[name], counts[name]) for name in most[:NUM_LISTED]]
    if rest := most[NUM_LISTED:]:
        rest_count = sum(counts[name] for name in rest)
        rows.append(PropertyRow(f"{len(rest):,} others", rest_count, rest_count))
    return tuple(rows)
