"""The pictures by which orders of work are compared: measured anew, or as a curated run's ledgers have them.

A run's shadow sample holds all evidence of some rejected pictures, as its kept ones do by themselves, and its done
records say what a call costs; then nothing is measured again.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from curation.commands.curate.origin import source_shards
from curation.commands.decide.preview import Opinion
from curation.commands.decide.stage import DecideJob, read, recipes_of
from curation.commands.order.replay import Observed
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import MANIFEST_NAME, Manifest, read_manifest
from curation.dataset.sample import Sample
from curation.dataset.sources import SourceShard, source_samples
from curation.dataset.stages import CURATE
from curation.errors import UsageError
from curation.measure.cascade import DECODE, Entry, Measured, in_shadow, measure, missing
from curation.measure.columns import footer_of
from curation.measure.filter_set import load_bank, measurement_keys, weights_of
from curation.recipe.recipe import Recipe, recipe_of
from curation.run.costs import costs
from curation.run.target import finished
from curation.sandbox.parent import CELL
from curation.sandbox.protocol import CellFault

MAX_SHARDS = 32
"""Shards that are read for a sample; of a larger folder these are drawn by chance."""
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
    target = source / CURATE.name if (source / CURATE.name).is_dir() else source
    is_curated = (target / MANIFEST_NAME).is_file() and read_manifest(target).stage == CURATE.name
    return _of_run(target, recipe, num_pictures, seed) if is_curated else _of_tars(source, recipe, num_pictures, seed)


def _of_tars(source: Path, recipe: Recipe, num_pictures: int, seed: int) -> OrderSample:
    shards = [shard for shard, _ in source_shards(source)]
    chosen, num_seen = _drawn(shards, num_pictures, seed)
    measured = _measured(chosen, recipe)
    observed = tuple(Observed(picture.evidence, picture.seconds) for picture in measured)
    return OrderSample(
        observed,
        f"{len(chosen)} of {num_seen} samples in {min(len(shards), MAX_SHARDS)} of {len(shards)} shards of {source}",
        len(chosen) - len(observed),
        float(np.mean([picture.seconds[DECODE] for picture in measured])) if measured else 0.0,
    )


def _of_run(target: Path, recipe: Recipe, num_pictures: int, seed: int) -> OrderSample:
    manifest = finished(target, CURATE)
    kept, rejected, num_refused = _rows(manifest, target, recipe, num_pictures, seed)
    if rejected.num_seen and len(rejected.complete) < min(MIN_SHADOW, rejected.num_seen):
        raise UsageError(
            f"{target}: {len(rejected.complete)} rejected pictures with all their evidence, and at least {MIN_SHADOW} "
            f"are needed: measure a sample of the tars instead (name their folder)"
        )
    if not kept.complete and not rejected.complete:
        raise UsageError(f"{target}: no readable picture of which all is known: nothing to order by")
    spent = {cost.step: cost.ms_per_picture / 1000 for cost in costs(target, manifest)}
    asked = {
        name
        for judged in (*kept.complete, *rejected.complete)
        for name, known in judged.known.items()
        if known is not None
    }
    if unknown := sorted(asked - set(spent)):
        raise UsageError(
            f"{target}: its done records do not say what a call of {unknown[0]!r} costs: measure a sample of the tars "
            f"instead (name their folder)"
        )
    seconds = {name: spent[name] for name in asked}
    dice = random.Random(seed)
    observed = tuple(
        Observed(judged.known, seconds, group.num_seen / min(num_pictures, len(group.complete)))
        for group in (kept, rejected)
        for judged in dice.sample(group.complete, min(num_pictures, len(group.complete)))
    )
    origin = (
        f"ledgers and done records of {target}: {len(kept.complete)} of {kept.num_seen} kept and "
        f"{len(rejected.complete)} of {rejected.num_seen} rejected pictures"
    )
    return OrderSample(observed, origin, num_refused, spent[DECODE])


@dataclass
class _Group:
    """The kept or the rejected pictures of the shards that were read."""

    num_seen: int
    complete: list[Opinion]
    """Those of which all is known, and were not chosen for what they show."""


def _rows(manifest: Manifest, target: Path, recipe: Recipe, num_pictures: int, seed: int) -> tuple[_Group, _Group, int]:
    """Return kept and rejected pictures, and how many samples no filter has judged, of shards drawn by chance."""
    weights, fraction = weights_of(recipe), shadow_fraction(manifest, target)
    kept, rejected, num_refused = _Group(0, []), _Group(0, []), 0
    for report in random.Random(seed).sample(manifest.shards, len(manifest.shards)):
        path = report.file(target, ".parquet")
        _require_same(path, recipe, weights)
        for judged in read(DecideJob(report.shard, report, None, target, recipe, weights)).opinions:
            if not judged.known:
                num_refused += 1
                continue
            group = kept if judged.before.kept else rejected
            group.num_seen += 1
            is_chance = judged.before.kept or in_shadow(judged.row["uid"], fraction)
            if is_chance and not missing(judged.known, recipe):
                group.complete.append(judged)
        if min(len(kept.complete), len(rejected.complete)) >= num_pictures:
            break
    return kept, rejected, num_refused


def shadow_fraction(manifest: Manifest, target: Path) -> float:
    """Return the share of the rejected pictures that every recipe which judged the run has measured by chance."""
    judging = [recipe_of(values, f"{target}: a recipe in its manifest").file.curate for values in recipes_of(manifest)]
    return min(1.0 if settings.measure == "all" else settings.shadow_fraction for settings in judging)


def _require_same(path: Path, recipe: Recipe, weights: dict[str, str]) -> None:
    there = footer_of(read_ledger(path, ["uid"]), path).measurement_keys
    for name, key in measurement_keys(recipe, weights).items():
        if there.get(name) != key:
            raise UsageError(
                f"{path}: its column {name!r} was measured otherwise than recipe {recipe.name!r} measures, or not at "
                f"all: decide the run by this recipe first, or name the folder of the tars"
            )


def _drawn(shards: Sequence[SourceShard], num_samples: int, seed: int) -> tuple[list[tuple[str, Sample]], int]:
    """Return that many samples of the shards with their uids, each as likely as any other, and how many were seen."""
    dice = random.Random(seed)
    drawn = sorted(dice.sample(shards, min(len(shards), MAX_SHARDS)), key=lambda shard: (shard.path, shard.name))
    chosen: list[tuple[str, Sample]] = []
    num_seen = 0
    for uid, sample in _samples(drawn):
        num_seen += 1
        place = len(chosen) if len(chosen) < num_samples else dice.randrange(num_seen)
        if place < num_samples:
            chosen[place : place + 1] = [(uid, sample)]
    return chosen, num_seen


def _samples(shards: Sequence[SourceShard]) -> Iterator[tuple[str, Sample]]:
    for shard in shards:
        with shard.opened() as tar:
            for sample in source_samples(shard, tar):
                if sample.problem is None:
                    yield sample.uid(shard.name), sample


def _measured(samples: Sequence[tuple[str, Sample]], recipe: Recipe) -> list[Measured]:
    """Measure in full, one by one, what can be read; again where somebody's first call is in it, since that costs more.

    Whatever a picture does to the cell, it counts as refused.
    """
    weights, whole = weights_of(recipe), _in_full(recipe)
    warm: set[str] = set()
    measured = []
    for uid, sample in samples:
        entry = Entry(uid, sample.image_bytes)
        outcome = measured_alone(entry, whole, weights)
        if isinstance(outcome, Measured) and not warm.issuperset(outcome.seconds):
            warm |= set(outcome.seconds)
            outcome = measured_alone(entry, whole, weights)
        if isinstance(outcome, CellFault):
            warm.clear()  # the next picture may meet a new cell
        elif outcome.refused is None:
            measured.append(outcome)
    return measured


def measured_alone(entry: Entry, recipe: Recipe, weights: Mapping[str, str]) -> Measured | CellFault:
    """Return what comes of one picture, in a cell where the recipe says so, or what it did to the cell."""
    if not recipe.file.curate.isolate:
        return measure([entry], load_bank(recipe, weights), recipe)[0]
    outcome = CELL.measure([entry], recipe, weights)
    return outcome if isinstance(outcome, CellFault) else outcome[0]


def _in_full(recipe: Recipe) -> Recipe:
    """Return the recipe with every rejected picture in its shadow sample, so that all is measured of each."""
    curate = recipe.file.curate.model_copy(update={"shadow_fraction": 1.0})
    return replace(recipe, file=recipe.file.model_copy(update={"curate": curate}))
