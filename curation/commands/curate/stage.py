"""The stage `curate`: the shards of a source through the filters, each into a tar of the kept and a ledger of all."""

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from curation.commands.curate.origin import source_shards
from curation.commands.curate.shard import CurateJob, curate_shard, done_before
from curation.commands.curate.work import curate_work, work_ids
from curation.dataset.manifest import MANIFEST_NAME, Manifest, read_manifest
from curation.dataset.sources import TarShard
from curation.dataset.sources.made import PackedTar
from curation.dataset.stages import CURATE
from curation.images.decode import require_decoders
from curation.measure.filter_set import plugins_of, weights_of
from curation.recipe.recipe import Recipe
from curation.run.derived import homes_of, register_at
from curation.run.runner import OnOutcome, Spread, run_all, silent, tally_of
from curation.run.shares import Share, clear_away, mark_taken, require_apart, require_same_source, shares_in, take_over
from curation.run.sources import Known, difference, known_shards, recorded, require_all, way_on, with_sha256s
from curation.run.target import Facts, claimed, finish
from curation.storage.paths import named

MAX_FEW_SHARDS, MAX_FEW_BYTES = 16, 8 << 20
"""Tars that are so few and small are measured sooner than a Ray of one's own has started."""


def curate(  # long: its options, and one line of work
    source: Path,
    target: Path,
    recipe: Recipe,
    spread: Spread,
    on_outcome: OnOutcome = silent,
    *,
    allow_removed: bool = False,
    share: Share | None = None,
    taken: Sequence[Path] = (),
) -> Manifest:
    """Curate every shard of `source` into `target`; the manifest is written when every shard had its outcome.

    Shards that came to the source since the last time are added. `allow_removed` lets go of what was made from shards
    that are gone or have changed; the manifest records it. `share` takes only its part of the shards
    (`curation.run.shares`); `taken` are the folders of shares, which `target` takes over and which go once it is whole.

    Raises:
        UsageError: there is no shard, `target` holds the output of another recipe or stage, or of shards that
            `source` does not hold as they were.
        WeightsError: a detector's weights are missing or not the ones that the catalogue names.
    """
    source, target = named(source), named(target)
    shards = source_shards(source)
    shards = shards if share is None else share.of(shards)
    require_apart(taken, source, target, shards)
    require_decoders(recipe.file.decode)
    weights = weights_of(recipe)
    work_digest, work_id = curate_work(recipe, weights), work_ids(recipe, weights)
    joined = shares_in(taken, target, CURATE, work_digest)
    with claimed(target, CURATE, work_digest, recipe) as lease:
        names = known_shards(target).keys() | {report.shard for one in joined for report in one.manifest.shards}
        shards = with_sha256s(shards, names, min(max(1, spread.num_workers), os.cpu_count() or 1))
        require_same_source(joined, source, shards, work_id)
        take_over(joined, target, shards, lease)
        before = read_manifest(target).extra if (target / MANIFEST_NAME).is_file() else {}
        missing = difference(known_shards(target), shards, work_id)
        if not allow_removed:
            require_all(source, target, missing, way_on(shard for shard, _ in shards))
        homes = homes_of([source / MANIFEST_NAME, *(shard.path for shard, _ in shards)])
        register_at(homes, target, CURATE.name)
        soon = [shard.path for shard, _ in shards[max(1, spread.num_workers) :]]
        jobs = [
            CurateJob(shard.name, shard, target, recipe, weights, sha, lease, ahead, source, tally_of(on_outcome))
            for (shard, sha), ahead in zip_longest(shards, soon)
        ]
        outcomes = run_all(jobs, curate_shard, _not_more_than_needed(spread, shards), on_outcome, done_before)
        brought = {plan.name: sources for plan in recipe.measurers if (sources := plugins_of(plan))}
        extra = {**before, "curate_digest": recipe.curate_digest, **recorded(before, missing)}
        extra |= {"plugins": brought} if brought else {}
        manifest = finish(target, CURATE, recipe, work_digest, outcomes, Facts(weights=weights, extra=extra), lease)
        if not manifest.failed:
            mark_taken(taken, target)
    if not manifest.failed:
        clear_away(taken, homes)
    return manifest


def _not_more_than_needed(spread: Spread, shards: Sequence[Known]) -> Spread:
    """Return a spread that starts no Ray of its own where measuring takes less time than that."""
    if spread.ray_address is not None or not 0 < len(shards) <= MAX_FEW_SHARDS:
        return spread
    num_bytes = sum(shard.path.stat().st_size for shard, _ in shards if shard.path.is_file())
    is_little = all(isinstance(shard, TarShard | PackedTar) for shard, _ in shards) and num_bytes <= MAX_FEW_BYTES
    return replace(spread, num_workers=0) if is_little else spread
