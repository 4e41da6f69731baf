"""The pictures by which `curation.ordering` compares orders: measured anew, or as a curated run's ledgers have them.

A run's shadow sample holds all evidence of some rejected pictures, as its kept ones do by themselves; then nothing dear
is measured again, but for the few pictures that say what a call costs.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curation.bank import FilterBank, load_bank, measurement_keys, weights_of
from curation.cascades import Observed, series
from curation.curate import STAGE, source_shards
from curation.decide import DecideJob, read
from curation.decode import Picture, decode
from curation.errors import UsageError
from curation.evidence import footer_of
from curation.forecast import Opinion
from curation.ledger import read_ledger
from curation.manifest import MANIFEST_NAME, Manifest, read_manifest
from curation.measuring import Entry, in_shadow, measure
from curation.recipe import Recipe, recipe_of
from curation.sample import Sample
from curation.settings import DecodeLimits
from curation.stage import finished
from curation.storage import local_copy
from curation.tar import read_samples
from filters.base import Filter, RgbImage

MAX_SHARDS = 32
"""Shards that are read for a sample; of a larger folder these are drawn by chance."""
NUM_TIMED = 16
"""Pictures that say what a call costs, where ledgers say the rest."""
MIN_SHADOW = 10
"""Rejected pictures with all their evidence below which a run says nothing of orders."""


@dataclass(frozen=True)
class OrderSample:
    """Pictures of which everything is known, and where they come from."""

    observed: tuple[Observed, ...]
    origin: str
    """In words, for a reader."""
    num_refused: int
    """Samples without a picture to measure: unreadable, duplicate, quarantined; they cost the same in every order."""
    decode_seconds: float
    """CPU time per readable picture."""


def sample_of(source: Path, recipe: Recipe, num_pictures: int, seed: int) -> OrderSample:
    """Return a sample of a folder of tars, or of a run that `curate` has finished.

    Raises:
        UsageError: there is neither, or the run's ledgers do not hold what this recipe measures.
    """
    target = source / STAGE if (source / STAGE).is_dir() else source
    is_curated = (target / MANIFEST_NAME).is_file() and read_manifest(target).stage == STAGE
    return _of_run(target, recipe, num_pictures, seed) if is_curated else _of_tars(source, recipe, num_pictures, seed)


def _of_tars(source: Path, recipe: Recipe, num_pictures: int, seed: int) -> OrderSample:
    shards = [path for path, _ in source_shards(source)]
    chosen, num_seen = _drawn(shards, num_pictures, seed)
    measured = _measured(chosen, recipe)
    observed = tuple(Observed(one.known, one.seconds) for one in measured)
    return OrderSample(
        observed,
        f"{len(chosen)} of {num_seen} samples in {min(len(shards), MAX_SHARDS)} of {len(shards)} shards of {source}",
        len(chosen) - len(observed),
        _mean([one.decode_seconds for one in measured]),
    )


def _of_run(target: Path, recipe: Recipe, num_pictures: int, seed: int) -> OrderSample:
    manifest = finished(target, STAGE)
    kept, rejected, num_refused = _rows(manifest, target, recipe, num_pictures, seed)
    if rejected.num_seen and len(rejected.complete) < min(MIN_SHADOW, rejected.num_seen):
        raise UsageError(
            f"{target}: {len(rejected.complete)} rejected pictures with all their evidence, and at least {MIN_SHADOW} "
            f"are needed: measure a sample of the tars instead (name their folder)"
        )
    fetched = target.parent / "fetch"
    tars = source_shards(fetched) if fetched.is_dir() else [(one.file(target, ".tar"), None) for one in manifest.shards]
    timed = _measured(_drawn([path for path, _ in tars], NUM_TIMED, seed)[0], recipe)
    calls = {name: [one.seconds[name] for one in timed if name in one.seconds] for name in _names(recipe)}
    seconds = {name: _mean(values) for name, values in calls.items() if values}
    dice = random.Random(seed)
    observed = tuple(
        Observed(one.known, seconds, group.num_seen / min(num_pictures, len(group.complete)))
        for group in (kept, rejected)
        for one in dice.sample(group.complete, min(num_pictures, len(group.complete)))
    )
    origin = (
        f"ledgers of {target}: {len(kept.complete)} of {kept.num_seen} kept and {len(rejected.complete)} of "
        f"{rejected.num_seen} rejected pictures; calls timed on {len(timed)} pictures"
    )
    return OrderSample(observed, origin, num_refused, _mean([one.decode_seconds for one in timed]))


@dataclass
class _Group:
    """The kept or the rejected pictures of the shards that were read."""

    num_seen: int
    complete: list[Opinion]
    """Those of which all is known, and were not chosen for what they show."""


def _rows(manifest: Manifest, target: Path, recipe: Recipe, num_pictures: int, seed: int) -> tuple[_Group, _Group, int]:
    """Return kept and rejected pictures, and how many samples no filter has judged, of shards drawn by chance."""
    weights, before = weights_of(recipe), recipe_of(manifest.recipe, f"{target}: the recipe in its manifest")
    kept, rejected, num_refused = _Group(0, []), _Group(0, []), 0
    fraction = 1.0 if before.file.curate.measure == "all" else before.file.curate.shadow_fraction
    for report in random.Random(seed).sample(manifest.shards, len(manifest.shards)):
        path = report.file(target, ".parquet")
        _require_same(path, recipe, weights)
        for one in read(DecideJob(report.shard, report, None, target, recipe, weights)).opinions:
            if not one.known:
                num_refused += 1
                continue
            group = kept if one.before.kept else rejected
            group.num_seen += 1
            is_chance = one.before.kept or in_shadow(one.row["uid"], fraction)
            if is_chance and all(evidence is not None for evidence in one.known.values()):
                group.complete.append(one)
        if min(len(kept.complete), len(rejected.complete)) >= num_pictures:
            break
    return kept, rejected, num_refused


def _require_same(path: Path, recipe: Recipe, weights: dict[str, str]) -> None:
    there = footer_of(read_ledger(path, ["uid"]), path).measurement_keys
    for name, key in measurement_keys(recipe, weights).items():
        if there.get(name) != key:
            raise UsageError(
                f"{path}: its column {name!r} was measured otherwise than recipe {recipe.name!r} measures, or not at "
                f"all: decide the run by this recipe first, or name the folder of the tars"
            )


def _drawn(shards: Sequence[Path], num_samples: int, seed: int) -> tuple[list[tuple[str, Sample]], int]:
    """Return that many samples of the shards with their uids, each as likely as any other, and how many were seen."""
    dice = random.Random(seed)
    read_ones = sorted(dice.sample(shards, min(len(shards), MAX_SHARDS)))
    chosen: list[tuple[str, Sample]] = []
    num_seen = 0
    for uid, sample in _samples(read_ones):
        num_seen += 1
        place = len(chosen) if len(chosen) < num_samples else dice.randrange(num_seen)
        if place < num_samples:
            chosen[place : place + 1] = [(uid, sample)]
    return chosen, num_seen


def _samples(shards: Sequence[Path]) -> Iterator[tuple[str, Sample]]:
    for path in shards:
        with local_copy(path) as tar:
            for sample in read_samples(tar, shown=path):
                if sample.problem is None:
                    yield sample.uid(path.stem), sample


@dataclass(frozen=True)
class _Timed:
    """One picture, measured in full."""

    known: dict[str, Any]
    seconds: dict[str, float]
    decode_seconds: float


class _Clock:
    """Notes the CPU time of decoding one picture and of every call of a filter on it."""

    def __init__(self, bank: FilterBank) -> None:
        self.bank = FilterBank({name: _Watched(one, name, self) for name, one in bank.filters.items()})
        """The filters with the clock around them."""
        self.seconds: dict[str, float] = {}
        self.decode_seconds = 0.0
        self.warm: set[str] = set()

    def decode(self, image_bytes: bytes, limits: DecodeLimits) -> Picture:
        started = time.process_time()
        picture = decode(image_bytes, limits)
        self.decode_seconds = time.process_time() - started
        return picture


@dataclass(frozen=True)
class _Watched:
    inner: Filter
    name: str
    clock: _Clock

    def measure(self, images: Sequence[RgbImage]) -> list[Any]:
        if self.name not in self.clock.warm:
            self.clock.warm.add(self.name)
            self.inner.measure(images)
        started = time.process_time()
        found = self.inner.measure(images)
        self.clock.seconds[self.name] = time.process_time() - started
        return found


def _measured(samples: Sequence[tuple[str, Sample]], recipe: Recipe) -> list[_Timed]:
    """Measure in full, one by one, what can be read; a filter's first call, which costs more, is made twice."""
    clock, whole = _Clock(load_bank(recipe, weights_of(recipe))), _in_full(recipe)
    found = []
    for uid, sample in samples:
        clock.seconds = {}
        (measured,) = measure([Entry(uid, sample.image_bytes)], clock.bank, whole, clock.decode)
        if measured.refused is None:
            found.append(_Timed(dict(measured.evidence), clock.seconds, clock.decode_seconds))
    return found


def _in_full(recipe: Recipe) -> Recipe:
    """Return the recipe with every rejected picture in its shadow sample, so that all is measured of each."""
    curate = recipe.file.curate.model_copy(update={"shadow_fraction": 1.0})
    return replace(recipe, file=recipe.file.model_copy(update={"curate": curate}))


def _names(recipe: Recipe) -> list[str]:
    return [name for one in series(recipe) for name in one]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
