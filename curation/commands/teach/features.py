"""The features of a run's pictures: measured once, each in a cell, from the tars; then they lie beside the run.

What was stopped goes on where it was. The folder (`curation.measure.features`) leaves its card with the curated one, by
which `forget` finds it.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.commands.decide.stage import shards_by_name
from curation.commands.order.observe import measured_alone
from curation.dataset.ledger import read_ledger, write_table
from curation.dataset.manifest import Manifest, ShardReport
from curation.dataset.sources import SourceShard, TarShard, source_samples
from curation.dataset.tombstones import Tombstones, consult
from curation.measure.cascade import Entry, Measured
from curation.measure.features import SCHEMA, Floats, features_folder, features_recipe
from curation.measure.filter_set import weights_of
from curation.printable import counted
from curation.recipe.recipe import Recipe
from curation.run.derived import FEATURES, register
from curation.storage.lease import hold
from curation.storage.paths import is_local, local_copy
from curation.storage.publish import publish_alone

Known = Mapping[str, tuple[str, Floats]]
"""sha256 -> uid and features."""


@dataclass(frozen=True)
class WantedPicture:
    """A picture whose features are wanted."""

    uid: str
    sha256: str
    shard: str


def features_of(
    target: Path,
    manifest: Manifest,
    source: Path,
    wanted: Sequence[WantedPicture],
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Floats]:
    """Return uid -> features, (1584,), of a curated folder's pictures.

    One is left out that lies neither in the folder that was curated nor among those that were kept, or that cannot be
    measured.

    Raises:
        ShardError: a tar that holds some of them cannot be read.
        WeightsError: the network's weights are not here.
        LeaseError: another run, such as `forget`, holds the folder of features at the moment of writing.
        UsageError: a `forget` was interrupted here.
    """
    recipe = features_recipe(manifest)
    weights = weights_of(recipe)
    folder = features_folder(target, recipe, weights)
    shards, found = shards_by_name(source), dict[str, Floats]()
    for number, report in enumerate(manifest.shards, 1):
        ours = [picture for picture in wanted if picture.shard == report.shard]
        path = folder / f"{report.shard}.parquet"
        known = _read(path, consult(target)) if ours else {}
        if missing := {picture.sha256: picture for picture in ours if picture.sha256 not in known}:
            what = counted(len(missing), "picture")
            tell(f"features: shard {report.shard} ({number} of {len(manifest.shards)}): {what}")
            register(target, folder.parent, FEATURES, manifest.state)
            if is_local(folder):
                folder.mkdir(parents=True, exist_ok=True)  # where a card leads something lies
            pictures = _pictures(report, shards.get(report.shard), target, missing)
            new = dict(_measured(pictures, recipe, weights))
            known = _added(path, {sha256: (missing[sha256].uid, features) for sha256, features in new.items()}, target)
        found |= {picture.uid: known[picture.sha256][1] for picture in ours if picture.sha256 in known}
    return found


def _pictures(
    report: ShardReport, source: SourceShard | None, target: Path, wanted: Mapping[str, WantedPicture]
) -> Iterator[tuple[str, bytes]]:
    """Yield sha256 and bytes of a shard's pictures: from what was curated, if it is still there, else of the kept."""
    is_there = source is not None and source.path.exists()
    shard = source if source is not None and is_there else TarShard(report.shard, report.file(target, ".tar"))
    waiting = set(wanted)
    with shard.opened() as tar:
        for sample in source_samples(shard, tar):
            sha256 = hashlib.sha256(sample.image_bytes).hexdigest()
            if sha256 in waiting:
                waiting.remove(sha256)
                yield sha256, sample.image_bytes


def _measured(
    pictures: Iterator[tuple[str, bytes]], recipe: Recipe, weights: Mapping[str, str]
) -> Iterator[tuple[str, Floats]]:
    for sha256, image_bytes in pictures:
        outcome = measured_alone(Entry(sha256, image_bytes), recipe, weights)
        if isinstance(outcome, Measured) and outcome.refused is None:
            yield sha256, np.array(outcome.evidence["taught"].features, dtype=np.float32)


def _read(path: Path, stones: Tombstones) -> Known:
    """Return sha256 -> uid and features, without what was forgotten; none where nothing was measured."""
    if not path.exists():
        return {}
    with local_copy(path) as copy:
        rows = read_ledger(copy).to_pylist()
    known = {row["sha256"]: (row["uid"], np.array(row["features"], dtype=np.float32)) for row in rows}
    return _remembered(known, stones)


def _added(path: Path, new: Known, target: Path) -> Known:
    """Add to what is known now, and return it: what was forgotten meanwhile is left out, or taken out by `forget`."""
    with hold(path.parent.parent):
        stones = consult(target)
        known = {**_read(path, stones), **_remembered(new, stones)}
        _write(path, known)
    return known


def _remembered(known: Known, stones: Tombstones) -> Known:
    return {sha256: of for sha256, of in known.items() if not stones.hold(of[0], None, sha256)}


def _write(path: Path, known: Known) -> None:
    rows = [
        {"uid": uid, "sha256": sha256, "features": features.tolist()}
        for sha256, (uid, features) in sorted(known.items())
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    publish_alone(path, lambda temp: write_table(temp, table, {"stage": "features"}))
