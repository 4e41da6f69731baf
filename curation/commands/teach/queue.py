"""Which pictures of a run a head is least sure of: those to label next (uncertainty sampling, Lewis and Gale, 1994)."""

import hashlib
import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.commands.decide.stage import places_of
from curation.commands.teach.features import WantedPicture, features_of
from curation.commands.teach.lesson import Tell
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest
from curation.dataset.stages import CURATE, FORGET
from curation.run.target import finished
from curation.storage.paths import local_copy
from filters.heads import Classifier, Heads

UNCERTAIN = "uncertain"
"""The stratum of what a head was least sure of: no sample of the run."""


@dataclass(frozen=True)
class Unsure:
    """A picture, and what the head makes of it."""

    uid: str
    key: str
    shard: str
    kept: bool
    logit: float
    """0 is even odds."""
    stratum: str = UNCERTAIN
    """How it was chosen; no probability is known with which that happens, so its label stands for itself alone."""


def least_sure(
    run: Path,
    heads: Heads,
    name: str,
    labelled: Collection[str] = (),
    *,
    num: int = 50,
    num_sampled: int = 1000,
    seed: int = 0,
    source: Path | None = None,
    tell: Tell = print,
) -> list[Unsure]:
    """Return the pictures whose logit is nearest to 0, nearest first, of a sample of a curated run drawn by chance.

    `labelled` are uids or sha256s that are left out. Every other readable picture is as likely to be in the sample, but
    not among those that are returned: a share of their labels says nothing of the run.

    Raises:
        UsageError: the run is not finished.
        WeightsError: the network's weights are not here.
    """
    folder, came_from = places_of(run, source)
    manifest = finished(folder, CURATE)
    rows = list(_unlabelled(folder, manifest, frozenset(labelled)))
    drawn = {row["uid"]: row for row in heapq.nsmallest(num_sampled, rows, key=lambda row: _rank(row["uid"], seed))}
    wanted = [WantedPicture(uid, row["sha256"], row["shard"]) for uid, row in drawn.items()]
    classifier = Classifier(heads)
    unsure = [
        Unsure(
            uid, drawn[uid]["key"], drawn[uid]["shard"], drawn[uid]["kept"], classifier.logits(features)[name],
        )
        for uid, features in features_of(folder, manifest, came_from, wanted, tell).items()
    ]  # fmt: skip
    return sorted(unsure, key=lambda picture: (abs(picture.logit), picture.uid))[:num]


def _unlabelled(folder: Path, manifest: Manifest, labelled: frozenset[str]) -> Iterator[dict[str, Any]]:
    columns = ["uid", "key", "sha256", "width", "kept", "rejected_by"]
    for report in manifest.shards:
        with local_copy(report.file(folder, ".parquet")) as path:
            rows = read_ledger(path, columns).to_pylist()
        for row in rows:
            is_readable = row["width"] is not None and row["sha256"] is not None and row["rejected_by"] != FORGET
            if is_readable and row["uid"] not in labelled and row["sha256"] not in labelled:
                yield {**row, "shard": report.shard}


def _rank(uid: str, seed: int) -> bytes:
    return hashlib.blake2b(uid.encode(), key=f"teach {seed}".encode(), digest_size=8).digest()
