"""Curated folders of evidence that was drawn, not measured: the real cascade, ledger and manifest, and no picture.

What filters would see is given; who is asked for it, in which order and how far, is the cascade's own doing, so a
ledger is cut short, and its shadow sample is measured in full, as in a run.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from curation.commands.curate.work import curate_work, curate_work_id_of
from curation.dataset.manifest import Manifest, ShardReport
from curation.dataset.stages import CURATE
from curation.images.decode import Picture
from curation.measure.cascade import Entry, measure
from curation.measure.columns import ledger_footer, ledger_row, ledger_schema
from curation.measure.filter_set import FilterBank, measurement_keys, weights_of
from curation.recipe.judge import Verdict, judge
from curation.recipe.recipe import Recipe
from curation.run.shard_writer import shard_writer
from curation.run.target import Facts, claimed, finish
from filters.base import Evidence, Filter, RgbImage
from filters.colour import ColourEvidence
from filters.detail import DetailEvidence
from filters.look import LookEvidence

Seen = Mapping[str, Evidence]
"""By filter, all that it would see of one picture."""
NUM_BATCH = 500


class Given:
    """A filter that was told what it will see: a picture's number stands in its only pixel."""

    def __init__(self, name: str, seen: Sequence[Seen]) -> None:
        """Look up what `name` sees."""
        self._name, self._seen = name, seen

    def measure(self, images: Sequence[RgbImage]) -> list[Any]:
        """Return one evidence per picture."""
        return [self._seen[int.from_bytes(image.tobytes(), "big")][self._name] for image in images]

    def scores(self, evidence: Any) -> dict[str, float]:
        """Never asked: a plan scores by its module."""
        raise NotImplementedError


def portraits(num: int, seed: int) -> list[Seen]:
    """Return what `colour`, `detail` and `look` see of pictures in which the better are the better in most things."""
    random = np.random.default_rng(seed)
    good = random.normal(size=num)
    spread, residual, fall, blocks = (0.5 * good + random.normal(size=num) for _ in range(4))
    bits = np.clip(np.round(32 + 3 * random.normal(size=num)), 0, 64).astype(int)
    return [
        {
            "colour": ColourEvidence(float(np.exp(spread[i])), 0.5, 10.0, float(np.exp(residual[i]))),
            "detail": DetailEvidence(_spectrum(25 - 4 * float(fall[i])), float(np.exp(-blocks[i] / 2))),
            "look": LookEvidence(f"{(1 << int(bits[i])) - 1:016x}", "0" * 64),
        }
        for i in range(num)
    ]


def _spectrum(fall_db: float) -> tuple[float, ...]:
    """Return 32 bands of which the fine ones are weaker by so many decibels."""
    return tuple(1.0 if band < 12 else 10 ** (-fall_db / 10) for band in range(32))


def write_curated(target: Path, recipe: Recipe, seen: Sequence[Seen], num_shard_rows: int = 1000) -> Manifest:
    """Curate pictures that show what is given into `target`."""
    weights = weights_of(recipe)
    keys, work = measurement_keys(recipe, weights), curate_work(recipe, weights)
    with claimed(target, CURATE, work) as lease:
        reports: list[ShardReport] = []
        for number, first in enumerate(range(0, len(seen), num_shard_rows)):
            name = f"{number:05d}"
            source = sha256(name.encode()).hexdigest()
            work_id = curate_work_id_of(name, source, recipe, keys)
            with shard_writer(target, lease, name, work_id) as shard:
                for row in _rows(recipe, seen, range(first, min(len(seen), first + num_shard_rows))):
                    shard.add(row)
                footer = ledger_footer(recipe, keys, source)
                reports.append(shard.commit(ledger_schema(recipe), footer, dict))
        facts = Facts(weights=weights, extra={"curate_digest": recipe.curate_digest})
        return finish(target, CURATE, recipe, work, reports, facts, lease)


def uid_of(number: int) -> str:
    """Return the uid of a picture by its number."""
    return sha256(str(number).encode()).hexdigest()[:32]


def kept_of(recipe: Recipe, seen: Sequence[Seen]) -> int:
    """Return the truth: how many pictures a recipe keeps of which all is known."""
    return sum(judge(evidence, recipe.criteria) == Verdict() for evidence in seen)


def _rows(recipe: Recipe, seen: Sequence[Seen], numbers: range) -> Iterator[dict[str, Any]]:
    for number, known in _measured(recipe, seen, numbers):
        verdict = judge(known, recipe.criteria)
        assert isinstance(verdict, Verdict)
        identity = {
            "uid": uid_of(number), "key": f"{number:09d}", "url": None, "sha256": uid_of(number) * 2,
            "width": 64, "height": 64, "format": "jpg", "num_bytes": 1000, "num_captions": 1,
        }  # fmt: skip
        yield ledger_row(identity, verdict, known, recipe)


def _measured(recipe: Recipe, seen: Sequence[Seen], numbers: range) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield what is known of each picture: all, or as far as the cascade asks."""
    if recipe.file.curate.measure == "all":
        yield from ((number, seen[number]) for number in numbers)
        return
    filters: dict[str, Filter] = {plan.name: Given(plan.name, seen) for plan in recipe.measurers}
    bank = FilterBank(MappingProxyType(filters))
    for first in range(0, len(numbers), NUM_BATCH):
        batch = numbers[first : first + NUM_BATCH]
        entries = [Entry(uid_of(number), number.to_bytes(4, "big")) for number in batch]
        for number, measured in zip(batch, measure(entries, bank, recipe, _opened), strict=True):
            yield number, measured.evidence


def _opened(image_bytes: bytes, _: Any) -> Picture:
    rgb = np.frombuffer(image_bytes, np.uint8).reshape(1, 1, -1)
    return Picture(rgb, 64, 64, "jpg", 1)
