"""What becomes of each sample of a shard, turned away or measured and judged, and what ledger and tar say of it."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curation.dataset.captions import captions_of
from curation.dataset.sample import Sample
from curation.dataset.stages import CURATE
from curation.dataset.tar import sample_members
from curation.images.reservations import reservation_in
from curation.measure.cascade import Entry, Measured
from curation.recipe.judge import Verdict, judge
from curation.recipe.recipe import Recipe

MAX_BATCH_BYTES = 64 << 20
"""Encoded bytes of the pictures that are handed over together."""

OPTED_OUT = "opted_out"
"""Reason: the picture's own metadata reserves it from training."""

Measure = Callable[[Sequence[Entry]], list[Measured]]


@dataclass(frozen=True)
class Examined:
    """What became of one sample: its verdict, and the evidence that was measured on the way."""

    sample: Sample
    uid: str
    measured: Measured
    verdict: Verdict


def examine(samples: Iterable[Sample], shard: str, recipe: Recipe, measure: Measure) -> Iterator[Examined]:
    """Yield what becomes of each sample, in order, a batch at a time.

    A uid whose picture could be read shadows those that come after it; a torn copy shadows none.
    """
    seen: set[str] = set()
    for batch in _batches(samples, shard, recipe.file.curate.num_batch_samples):
        away = {
            uid: verdict for uid, sample in batch if (verdict := _turned_away(uid, sample, seen, recipe)) is not None
        }
        entries = [Entry(uid, sample.image_bytes) for uid, sample in batch if uid not in away]
        measured = dict(zip((entry.uid for entry in entries), measure(entries) if entries else (), strict=True))
        for uid, sample in batch:
            outcome = Measured(refused=away[uid]) if uid in away else measured[uid]
            if outcome.refused is None:
                seen.add(uid)
            yield Examined(sample, uid, outcome, _verdict(outcome, recipe))


def _batches(samples: Iterable[Sample], shard: str, size: int) -> Iterator[list[tuple[str, Sample]]]:
    """Yield the samples with their uids in batches in which no uid stands twice, each of so many bytes at most.

    A picture that is larger goes alone.
    """
    batch: dict[str, Sample] = {}
    num_bytes = 0
    for sample in samples:
        uid, num_more = sample.uid(shard), len(sample.image_bytes)
        if batch and (len(batch) == size or uid in batch or num_bytes + num_more > MAX_BATCH_BYTES):
            yield list(batch.items())
            batch, num_bytes = {}, 0
        batch[uid] = sample
        num_bytes += num_more
    if batch:
        yield list(batch.items())


def _turned_away(uid: str, sample: Sample, seen: set[str], recipe: Recipe) -> Verdict | None:
    """Return why a sample is not even looked at, or None."""
    if sample.problem is not None:
        return Verdict(CURATE.name, sample.problem)
    if uid in seen:
        return Verdict(CURATE.name, "duplicate_uid")
    is_free = recipe.file.curate.reservations == "ignore" or reservation_in(sample.image_bytes) is None
    return None if is_free else Verdict(CURATE.name, OPTED_OUT)


def _verdict(measured: Measured, recipe: Recipe) -> Verdict:
    if measured.refused is not None:
        return measured.refused
    verdict = judge(measured.evidence, recipe.criteria)
    assert isinstance(verdict, Verdict), f"every filter that {verdict} waits for has measured"
    return verdict


def members(examined: Examined) -> Iterator[tuple[str, bytes]]:
    """Yield the tar members of a kept sample: the bytes as they came, its metadata, its caption."""
    return members_as(examined.uid, str(examined.measured.format), examined.sample)


def members_as(uid: str, image_format: str, sample: Sample) -> Iterator[tuple[str, bytes]]:
    """Yield the tar members of a sample under the uid and the format that its ledger gives it."""
    metadata = json.dumps(sample.metadata, sort_keys=True).encode()
    return sample_members(uid, image_format, sample.image_bytes, metadata, sample.caption)


def identity_of(examined: Examined) -> dict[str, Any]:
    """Return the columns of the ledger that say who a sample is."""
    sample, measured = examined.sample, examined.measured
    return {
        "uid": examined.uid,
        "key": clean(sample.key),
        "url": None if sample.url is None else clean(sample.url),
        "sha256": hashlib.sha256(sample.image_bytes).hexdigest() if sample.image_bytes else None,
        "width": measured.width,
        "height": measured.height,
        "format": measured.format,
        "num_bytes": len(sample.image_bytes),
        "num_captions": len(captions_of(sample.caption, sample.metadata)),
    }


def clean(text: str) -> str:
    """Parquet holds UTF-8 only; a lone surrogate from hostile JSON becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
