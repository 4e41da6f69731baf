"""Teaches heads (`filters.heads`) on features, and says how they do on sources that they were not taught on."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.learning import second_degree
from filters.heads import Classifier, Doubles, Floats, Head, Heads, Standard, Training, rooted

CLIP = 6.0
"""See `filters.heads.Heads.clip`."""
RIDGE = 0.01
"""Weight of the penalty on the weights' squares, beside a mean loss of balanced classes; .003 to .1 are alike."""
NUM_FOLDS = 10
_MAX_STEPS = 200
_NOWHERE = Training(manifest_sha256="0" * 64, num_pictures={})
"""Of heads that are never written."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Lesson:
    """What one head is to tell from what, by labels; pictures with other labels teach it nothing."""

    label: str
    against: Mapping[str, float]
    """Label -> weight of its pictures among themselves; both sides together weigh the same."""
    num_directions: int = 0
    """Along so many the squares of features count, too, as products teach; 0: a logistic regression."""


Lessons = Mapping[str, Lesson]
"""By the name of the head."""


@dataclass(frozen=True)
class Views:
    """Every view of every photo: rows of features, each with the number of the photo that it is of."""

    features_VF: Floats
    photo_of_V: npt.NDArray[np.int64]
    labels: npt.NDArray[np.str_]
    """Of each photo."""
    folds: npt.NDArray[np.int64]
    """Of each photo: the number of its source's fold."""
    weights_V: Doubles | None = None
    """What each view counts for beside others of its photo; None: all the same."""
    roots_from: int | None = None
    """See `filters.heads.Heads.roots_from`."""

    def of(self, photos: Mask) -> Mask:
        """Return which views are of these photos."""
        return np.asarray(photos[self.photo_of_V])


def folds_of(sources: Sequence[str], seed: int, num_folds: int = NUM_FOLDS) -> npt.NDArray[np.int64]:
    """Return each photo's fold, 0 to `num_folds` - 1; all photos of a source share one."""
    shuffled = np.random.default_rng(seed).permutation(sorted(set(sources)))
    fold = {str(source): number % num_folds for number, source in enumerate(shuffled)}
    return np.array([fold[source] for source in sources], dtype=np.int64)


def taught(
    views: Views,
    photos: Mask,
    network_sha256: str,
    training: Training,
    lessons: Lessons,
    standard: Heads | None = None,
) -> Heads:
    """Return heads that were taught on all views of these photos, numbers rounded to six digits.

    With `standard` features are standardised as for those heads, and of these the ones that no lesson names stay. A
    lesson with directions is made log-odds by what its regression says of folds left out, so it takes two at least.
    """
    here = views.of(photos)
    rows, of_photo = views.features_VF[here], views.photo_of_V[here]
    alike = _standard(rows, views.roots_from) if standard is None else Standard.of(standard)
    weights = np.ones(len(rows)) if views.weights_V is None else views.weights_V[here]
    pupil = _Pupil(alike(rows).astype(np.float32), views.labels[of_photo], views.folds[of_photo], weights)
    heads = {name: pupil.taught(lesson) for name, lesson in lessons.items()}
    others = {} if standard is None else {name: head for name, head in standard.heads.items() if name not in heads}
    return Heads(
        network_sha256=network_sha256,
        training=training,
        others={} if standard is None else {name: standard.training_of(name) for name in others},
        roots_from=alike.roots_from,
        mean=tuple(alike.mean.tolist()),
        deviation=tuple(alike.deviation.tolist()),
        clip=alike.clip,
        heads={**others, **heads},
    )


def out_of_fold(
    views: Views, lessons: Lessons, usable: Mask | None = None, standard: Heads | None = None
) -> Iterator[tuple[Mask, Classifier]]:
    """Yield each fold's photos with heads taught on the other folds' (of these, the `usable`).

    A fold without which a lesson has nothing left to tell, or nothing to tell it from, is left out.
    """
    everyone = np.ones(len(views.labels), dtype=bool) if usable is None else usable
    for number in np.unique(views.folds):
        mine = views.folds == number
        left = set(views.labels[everyone & ~mine].tolist())
        if all(lesson.label in left and not left.isdisjoint(lesson.against) for lesson in lessons.values()):
            yield mine, Classifier(taught(views, everyone & ~mine, "0" * 64, _NOWHERE, lessons, standard))


def cross_validated(judges: Iterable[tuple[Mask, Classifier]], rows_PF: Floats) -> dict[str, Doubles]:
    """Return each head's logits of one row per photo by `out_of_fold`'s judges.

    NaN stands where a row is not finite, and where nobody judges.
    """
    logits: dict[str, Doubles] = {}
    for mine, classifier in judges:
        for photo in np.flatnonzero(mine & np.isfinite(rows_PF).all(axis=1)):
            for name, logit in classifier.logits(rows_PF[photo]).items():
                logits.setdefault(name, np.full(len(rows_PF), np.nan))[photo] = logit
    return logits


def auc(positive: Doubles, negative: Doubles) -> float:
    """Return the probability that a positive scores above a negative, ties counting half."""
    ranks = np.searchsorted(np.sort(negative), positive, "left") + np.searchsorted(np.sort(negative), positive, "right")
    return float(ranks.mean() / 2 / len(negative))


def limit_losing(scores: Doubles, share: float) -> float:
    """Return the limit above which this share of the scores lies."""
    return float(np.quantile(scores, 1 - share))


def digest_of(pairs: Mapping[str, str]) -> str:
    """Return the sha256 of a manifest: a line `sha256 label` for each picture, sorted."""
    return hashlib.sha256("".join(f"{sha256} {pairs[sha256]}\n" for sha256 in sorted(pairs)).encode()).hexdigest()


def _standard(rows: Floats, roots_from: int | None) -> Standard:
    values = rooted(rows, roots_from)
    return Standard(roots_from, _rounded(values.mean(axis=0)), _rounded(values.std(axis=0) + 1e-6), CLIP)


@dataclass(frozen=True)
class _Pupil:
    """Standardised views with what they show, from which heads are taught one by one."""

    rows_VF: Floats
    labels_V: npt.NDArray[np.str_]
    folds_V: npt.NDArray[np.int64]
    weights_V: Doubles

    def taught(self, lesson: Lesson) -> Head:
        side = [1.0 if label == lesson.label else lesson.against.get(label, 0.0) for label in self.labels_V.tolist()]
        weights = np.array(side) * self.weights_V
        chosen = weights > 0
        rows, is_positive, weights = self.rows_VF[chosen], self.labels_V[chosen] == lesson.label, weights[chosen]
        weights = weights / np.where(is_positive, weights[is_positive].sum(), weights[~is_positive].sum()) / 2
        if lesson.num_directions:
            return _squared(rows, is_positive, weights, self.folds_V[chosen], lesson.num_directions)
        row, bias = _logistic(rows, is_positive, weights, RIDGE)
        return _head(row, bias)


def _squared(
    rows: Floats, is_positive: Mask, weights: Doubles, folds: npt.NDArray[np.int64], num_directions: int
) -> Head:
    kernel = second_degree.products(rows, rows)
    shares, inverse = second_degree.shares_of(kernel, is_positive, weights, second_degree.RIDGE)
    scores = second_degree.left_out(shares, inverse, is_positive, folds)
    (scale,), offset = _logistic(scores[:, None].astype(np.float32), is_positive, weights, 0.0)
    directions, curvatures = second_degree.along(rows, shares, num_directions)
    linear = 2 * rows.T @ shares / rows.shape[1]
    return _head(scale * linear, offset + scale * float(shares.sum()), directions, scale * curvatures)


def _logistic(rows: Floats, is_positive: Mask, weights: Doubles, ridge: float) -> tuple[Doubles, float]:
    import torch

    x, y, w = (torch.tensor(values, dtype=torch.float32) for values in (rows, is_positive, weights))
    row, bias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([row, bias], max_iter=_MAX_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimiser.zero_grad()
        error = torch.nn.functional.binary_cross_entropy_with_logits(x @ row + bias, y, reduction="none")
        value = (w * error).sum() + ridge * (row * row).sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return row.detach().numpy().astype(np.float64), bias.item()


def _head(weights: Doubles, bias: float, directions: Doubles | None = None, curvatures: Doubles | None = None) -> Head:
    return Head(
        weights=tuple(_rounded(weights).tolist()),
        bias=float(f"{bias:.6g}"),
        directions=() if directions is None else tuple(tuple(_rounded(row).tolist()) for row in directions),
        curvatures=() if curvatures is None else tuple(_rounded(curvatures).tolist()),
    )


def _rounded(values: npt.NDArray[np.floating]) -> Doubles:
    return np.array([float(f"{value:.6g}") for value in values.tolist()])
