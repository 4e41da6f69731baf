"""Teaches a head from a run's labelled pictures, and says what it does on sources that taught it nothing."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.commands.decide.stage import places_of
from curation.commands.teach.features import WantedPicture, features_of
from curation.dataset.labelled import read_label_set
from curation.dataset.manifest import Manifest
from curation.dataset.stages import CURATE
from curation.dataset.tombstones import consult
from curation.errors import UsageError
from curation.learning.heads import (
    NUM_FOLDS,
    Lesson,
    Views,
    auc,
    cross_validated,
    digest_of,
    folds_of,
    out_of_fold,
    taught,
)
from curation.learning.limits import (
    MIN_OF_EACH,
    LimitFigures,
    Scored,
    Side,
    SourcesLeftOut,
    Target,
    choose,
    figures_at,
    figures_of,
    rejects,
    with_sources_left_out,
)
from curation.learning.shares import WeighedShare, share_of
from curation.printable import counted
from curation.recipe.limits import labels_file
from curation.run.labelled_rows import LabelledRow, labelled_rows
from curation.run.target import finished
from filters.base import WeightsFile
from filters.detectors.efficientnet_lite import NUM_FEATURES
from filters.drawn import HEADS as HEADS_OF_DRAWN
from filters.heads import Heads, Training, read_heads
from filters.weights import find_weights

NETWORK = "efficientnet_lite0"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """What somebody wants a head to tell."""

    label: str
    """The class."""
    against: tuple[str, ...] = ()
    """Labels that it is told from; none: all others."""
    head: str | None = None
    """Name of the head, if not the label's; one of the filter `drawn` takes that one's place."""
    is_to_stay: bool = False
    """Whether pictures of the class are to stay, and the others to go."""

    @property
    def name(self) -> str:
        """Name of the head."""
        return self.head or self.label

    @property
    def is_of_drawn(self) -> bool:
        """Whether it takes the place of a head of `drawn`."""
        return self.name in HEADS_OF_DRAWN


@dataclass(frozen=True)
class TaughtHead:
    """A head, and what it does on sources that taught it nothing."""

    wish: Wish
    heads: Heads
    side: Side
    limit: float | None
    """Of the logit; None where none meets the target."""
    target: Target
    auc: float
    """Of sources left out: how often a picture of the class has the higher logit."""
    figures: LimitFigures | None
    """At the limit, which was chosen on these logits."""
    left_out: SourcesLeftOut | None
    """Where the limit, too, is that of other sources."""
    own: LimitFigures
    """What the run's recipe as a whole does with the same pictures."""
    rejected: Mapping[str, WeighedShare]
    """By label: which share the limit rejects."""
    num_sources: int
    num_unjudged: int
    """Pictures of sources without which nothing could be taught."""
    num_without_picture: int
    short_of: Mapping[str, int]


def teach(
    run: Path, labels: Path, wish: Wish, target: Target, source: Path | None = None, seed: int = 0, tell: Tell = print
) -> TaughtHead:
    """Return a head that tells the wished class, taught on the labelled pictures of a curated run.

    Raises:
        UsageError: too few pictures or sources are labelled on one side.
        ShardError: a tar that holds some of them cannot be read.
        WeightsError: the network's weights, or the head that it takes the place of, are not here.
    """
    if wish.is_of_drawn and wish.is_to_stay:
        raise UsageError(f"--head {wish.name}: what this head of the filter `drawn` tells is to go; name another head")
    label_set = read_label_set(labels_file(labels))
    folder, came_from = places_of(run, source)
    consult(folder)
    manifest = finished(folder, CURATE)
    against = wish.against or tuple(label for label in label_set.counts if label != wish.label)
    if unknown := [label for label in (wish.label, *against) if label not in label_set.counts]:
        raise UsageError(f"{labels}: nothing is labelled {unknown[0]!r}; the labels are {', '.join(label_set.counts)}")
    rows = [row for row in labelled_rows(label_set, folder, manifest) if row.picture.label in (wish.label, *against)]
    wanted = [WantedPicture(row.row["uid"], row.row["sha256"], row.shard) for row in rows if row.row["sha256"]]
    features = features_of(folder, manifest, came_from, wanted, tell)
    usable = [row for row in rows if row.row["uid"] in features]
    _require_enough(usable, wish, against, len(rows) - len(usable))
    views = _views(usable, features, seed)
    network = find_weights(NETWORK)
    standard = standard_of(manifest, network) if wish.is_of_drawn else None
    return examined(usable, views, wish, against, target, network.sha256, standard, len(rows) - len(usable))


def standard_of(manifest: Manifest, network: WeightsFile) -> Heads:
    """Return the heads of `drawn` that the run judges by, or those of the package."""
    stanzas = [stanza for stanza in manifest.recipe["filters"] if stanza["name"] == "drawn"]
    name = stanzas[0]["measure"]["heads"] if stanzas else "drawn_heads"
    return read_heads(find_weights(name), network, HEADS_OF_DRAWN, NUM_FEATURES)


def _require_enough(rows: Sequence[LabelledRow], wish: Wish, against: Sequence[str], num_lost: int) -> None:
    sides = {wish.label: [row for row in rows if row.picture.label == wish.label]}
    sides[" or ".join(against)] = [row for row in rows if row.picture.label != wish.label]
    for name, side in sides.items():
        num_sources = len({row.source for row in side})
        if len(side) < MIN_OF_EACH or num_sources < 2:
            lost = f" ({num_lost} labelled pictures lie nowhere that can be read)" if num_lost else ""
            found = f"{counted(len(side), 'picture')} of {counted(num_sources, 'source')} labelled {name}{lost}"
            raise UsageError(
                f"too few labels: {found}; a head needs {MIN_OF_EACH} of each side at least, "
                f"of two sources, and some hundred of each to be worth much"
            )


def _views(rows: Sequence[LabelledRow], features: Mapping[str, object], seed: int) -> Views:
    sources = [row.source for row in rows]
    return Views(
        np.stack([np.asarray(features[row.row["uid"]], dtype=np.float32) for row in rows]),
        np.arange(len(rows)),
        np.array([row.picture.label for row in rows]),
        folds_of(sources, seed, min(NUM_FOLDS, len(set(sources)))),
    )


def examined(  # the whole of a lesson, and of its examination
    rows: Sequence[LabelledRow],
    views: Views,
    wish: Wish,
    against: Sequence[str],
    target: Target,
    network_sha256: str,
    standard: Heads | None = None,
    num_without_picture: int = 0,
) -> TaughtHead:
    """Return the head that labelled pictures teach, `views` being of `rows`, in their order, a view each."""
    lessons = {wish.name: Lesson(wish.label, dict.fromkeys(against, 1.0))}
    pairs = {row.row["sha256"]: row.picture.label for row in rows}
    training = Training(manifest_sha256=digest_of(pairs), num_pictures=dict(sorted(Counter(pairs.values()).items())))
    everyone = np.ones(len(rows), dtype=bool)
    heads = taught(views, everyone, network_sha256, training, lessons, standard)
    judges = list(out_of_fold(views, lessons, standard=standard))
    logits = cross_validated(judges, views.features_VF).get(wish.name, np.full(len(rows), np.nan))
    judged = np.isfinite(logits)
    is_class = views.labels == wish.label
    if not (judged & is_class).any() or not (judged & ~is_class).any():
        raise UsageError("too few sources are labelled to leave one out: label pictures of more sources")
    scored = Scored(
        logits[judged],
        (is_class != wish.is_to_stay)[judged],
        np.array([row.picture.weight for row in rows])[judged],
        views.folds[judged],
    )
    side: Side = "min" if wish.is_to_stay else "max"
    limit = choose(scored, side, target)
    figures = None if limit is None else figures_at(scored, limit, side)
    gone = np.zeros(len(scored.scores), bool) if limit is None else rejects(scored.scores, limit, side)
    labels = views.labels[judged]
    return TaughtHead(
        wish=wish,
        heads=heads,
        side=side,
        limit=limit,
        target=target,
        auc=auc(logits[judged & is_class], logits[judged & ~is_class]),
        figures=figures,
        left_out=with_sources_left_out(scored, side, target),
        own=figures_of(np.array([not row.row["kept"] for row in rows])[judged], scored),
        rejected={
            label: share_of(gone[labels == label], scored.weights[labels == label]) for label in (wish.label, *against)
        },
        num_sources=len({row.source for row in rows}),
        num_unjudged=int((~judged).sum()),
        num_without_picture=num_without_picture,
        short_of={} if figures is None else figures.short_of(target),
    )
