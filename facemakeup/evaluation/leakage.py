"""Whether a reference was trained on: by uid, by bytes, by pHash, and by who is nearest to it.

A person who was seen in training is remembered better than one who was not, so a table over such references measures
memory. What a training index lacks cannot be looked for, and is said.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import UsageError
from facemakeup.data.sidecar import SETTINGS_NAME
from facemakeup.evaluation.cosine import unit_rows
from facemakeup.evaluation.estimate import Floats
from facemakeup.evaluation.face_similarity import Calibration

MAX_PHASH_DISTANCE = 4
"""Bits of 64 up to which two pictures count as one."""
IDENTITIES = "identities"
BEYOND = 2.0
"""No cosine reaches it."""
HASHES = ("sha256", "source_sha256")
BLOCK = 65_536


@dataclass(frozen=True)
class Trace:
    """How a reference is looked for."""

    key: str
    uid: str
    sha256: str
    phash: str
    """16 hex digits."""


@dataclass(frozen=True)
class Leak:
    """A reference and a training sample that may be one picture, or one person."""

    key: str
    by: str
    """`uid`, `sha256`, `phash` or `identity`."""
    sample: str
    """The sample's uid, else its row in the index."""
    distance: float
    """Differing bits for `phash`, 1 - cosine for `identity`, else 0."""


@dataclass(frozen=True)
class Leakage:
    """What was found, and what could not be looked for."""

    leaks: tuple[Leak, ...]
    num_samples: int
    looked_by: tuple[str, ...]
    not_looked_by: tuple[str, ...]
    nearest: Mapping[str, float] = field(default_factory=dict)
    """Reference -> cosine with the nearest person of training."""
    threshold: float | None = None
    """Cosine from which the nearest person counts as the same; None where nobody has two photos to set it by."""

    @property
    def leaked_keys(self) -> frozenset[str]:
        """References that are in the training data."""
        return frozenset(leak.key for leak in self.leaks)


def check_leakage(traces: Sequence[Trace], index: Mapping[str, Sequence[Any]]) -> Leakage:
    """Look for references among the columns of a training index (`uid`, `sha256`, `source_sha256`, `phash`)."""
    num = max((len(column) for column in index.values()), default=0)
    names = index.get("uid") or [str(row) for row in range(num)]
    leaks = [*_equal(traces, index, names), *_alike(traces, index.get("phash", ()), names)]
    kinds = {"uid": "uid" in index, "sha256": any(name in index for name in HASHES), "phash": "phash" in index}
    looked = tuple(kind for kind, there in kinds.items() if there)
    return Leakage(tuple(leaks), num, looked, tuple(kind for kind in (*kinds, "identity") if kind not in looked))


def nearest_people(
    keys: Sequence[str], references_RD: Floats, training_ND: Floats, names: Sequence[str], threshold: float
) -> tuple[dict[str, float], list[Leak]]:
    """Return the nearest person's cosine of each reference, and those at or above `threshold`.

    Both sets must be one recogniser's vectors. The threshold is the recogniser's own: between what it gives strangers
    and what it gives one person (`facemakeup.evaluation.face_similarity.calibrate`).
    """
    references = unit_rows(references_RD)
    best_R, at_R = np.full(len(references), -1.0), np.zeros(len(references), dtype=np.intp)
    for start in range(0, len(training_ND), BLOCK):
        cosines_RB = references @ unit_rows(training_ND[start : start + BLOCK]).T
        here_R = cosines_RB.argmax(axis=1)
        values_R = cosines_RB[np.arange(len(references)), here_R]
        is_nearer_R = values_R > best_R
        best_R[is_nearer_R], at_R[is_nearer_R] = values_R[is_nearer_R], here_R[is_nearer_R] + start
    found = list(zip(keys, best_R.tolist(), at_R.tolist(), strict=True))
    leaks = [Leak(key, "identity", names[row], 1 - cosine) for key, cosine, row in found if cosine >= threshold]
    return {key: cosine for key, cosine, _ in found}, leaks


@dataclass(frozen=True, eq=False)
class TrainedPeople:
    """Identity vectors of a training's cache."""

    recogniser: str
    sha256: str
    names: Sequence[str]
    """The samples' uids."""
    vectors_ND: Floats


def read_identities(folder: Path) -> TrainedPeople:
    """Read the sidecar tars of identity vectors that `facecaptionhq cache` wrote.

    Raises:
        UsageError: they are not there, or are another cache.
    """
    try:
        made_by = json.loads((folder / SETTINGS_NAME).read_text(encoding="utf-8"))
        kind, recogniser, sha256 = made_by["kind"], made_by["name"], made_by["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{folder}: no cache of identity vectors, as `facecaptionhq cache` writes: {error!r}"
        ) from error
    if kind != IDENTITIES:
        raise UsageError(f"{folder}: a cache of {kind}, not of {IDENTITIES}")
    names, rows = [], []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None, "a sidecar tar holds files"
                names.append(member.name.rsplit(".", 3)[0])
                rows.append(np.load(io.BytesIO(file.read()), allow_pickle=False))
    if not rows:
        raise UsageError(f"{folder}: not one identity vector in it")
    return TrainedPeople(recogniser, sha256, names, np.stack(rows))


def with_nearest(
    found: Leakage, references: Mapping[str, Floats], trained: TrainedPeople, calibration: Calibration
) -> Leakage:
    """Return a leakage with the people of training who are nearest to references, looked for by one recogniser.

    Who counts as the same person lies half-way between what the recogniser gives one person and strangers.
    """
    means = (calibration.same, calibration.different)
    known = [mean for mean in means if mean is not None]
    threshold = sum(known) / 200 if len(known) == len(means) else None
    if not references:
        return found
    limit = BEYOND if threshold is None else threshold
    rows = np.stack(list(references.values()))
    nearest, leaks = nearest_people(list(references), rows, trained.vectors_ND, trained.names, limit)
    return replace(
        found,
        leaks=(*found.leaks, *leaks),
        num_samples=max(found.num_samples, len(trained.names)),
        looked_by=(*found.looked_by, "identity"),
        not_looked_by=tuple(kind for kind in found.not_looked_by if kind != "identity"),
        nearest=nearest,
        threshold=threshold,
    )


def read_index(path: Path) -> dict[str, list[Any]]:
    """Return the columns of a parquet file that references are looked for in: `index.parquet` of a pack, or a ledger.

    Raises:
        UsageError: it is not there, is no parquet, or has none of the columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = ("uid", *HASHES, "phash")
    try:
        present = [name for name in wanted if name in pq.read_schema(path).names]
        table = pq.read_table(path, columns=present)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path}: no training index could be read from it: {error}") from error
    if not present:
        raise UsageError(f"{path}: none of the columns {', '.join(wanted)} is in it")
    return {name: table.column(name).to_pylist() for name in present}


def _equal(traces: Sequence[Trace], index: Mapping[str, Sequence[Any]], names: Sequence[str]) -> Iterator[Leak]:
    for by, columns in (("uid", ("uid",)), ("sha256", HASHES)):
        wanted: dict[str, list[str]] = {}
        for trace in traces:
            wanted.setdefault(getattr(trace, by), []).append(trace.key)
        for column in columns:
            for row, value in enumerate(index.get(column, ())):
                yield from (Leak(key, by, names[row], 0.0) for key in wanted.get(value, ()))


def _alike(traces: Sequence[Trace], phashes: Sequence[str | None], names: Sequence[str]) -> Iterator[Leak]:
    rows = np.array([row for row, value in enumerate(phashes) if value], dtype=np.intp)
    bits_N = _bits([phashes[row] or "" for row in rows])
    for trace in traces:
        distances_N = np.bitwise_count(bits_N ^ _bits([trace.phash]))
        for near in np.flatnonzero(distances_N <= MAX_PHASH_DISTANCE):
            yield Leak(trace.key, "phash", names[rows[near]], float(distances_N[near]))


def _bits(phashes: Sequence[str]) -> npt.NDArray[np.uint64]:
    return np.array([int(value, 16) for value in phashes], dtype=np.uint64)
