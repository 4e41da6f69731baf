"""Teaches heads (`filters.heads`) on features, and says how they do on sources that they were not taught on."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from filters.heads import Classifier, Head, Heads, Training

CLIP = 6.0
"""See `filters.heads.Heads.clip`."""
RIDGE = 0.01
"""Weight of the penalty on the weights' squares, beside a mean loss of balanced classes; .003 to .1 are alike."""
NUM_FOLDS = 10
_MAX_STEPS = 200
_NOWHERE = Training(manifest_sha256="0" * 64, num_pictures={})
"""Of heads that are never written."""

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Lesson:
    """What one head is to tell from what, by labels; pictures with other labels teach it nothing."""

    label: str
    against: Mapping[str, float]
    """Label -> weight of its pictures among themselves; both sides together weigh the same."""


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

    With `standard` features are standardised as for those heads, and of these the ones that no lesson names stay.
    """
    here = views.of(photos)
    rows, labels = views.features_VF[here], views.labels[views.photo_of_V[here]]
    if standard is None:
        mean = _rounded(rows.mean(axis=0, dtype=np.float64))
        deviation, clip = _rounded(rows.std(axis=0, dtype=np.float64) + 1e-6), CLIP
    else:
        mean, deviation, clip = np.array(standard.mean), np.array(standard.deviation), standard.clip
    standard_VF = np.clip((rows - mean) / deviation, -clip, clip).astype(np.float32)
    heads = {name: _taught(standard_VF, labels, lesson) for name, lesson in lessons.items()}
    others = {} if standard is None else {name: head for name, head in standard.heads.items() if name not in heads}
    return Heads(
        network_sha256=network_sha256,
        training=training,
        others={} if standard is None else {name: standard.training_of(name) for name in others},
        mean=tuple(mean.tolist()),
        deviation=tuple(deviation.tolist()),
        clip=clip,
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


def _taught(standard_VF: Floats, labels: npt.NDArray[np.str_], lesson: Lesson) -> Head:
    import torch

    weight = np.array([1.0 if label == lesson.label else lesson.against.get(label, 0.0) for label in labels.tolist()])
    chosen = weight > 0
    is_positive, weight = labels[chosen] == lesson.label, weight[chosen]
    share = weight / np.where(is_positive, weight[is_positive].sum(), weight[~is_positive].sum()) / 2
    x, y, w = (torch.tensor(values, dtype=torch.float32) for values in (standard_VF[chosen], is_positive, share))
    weights, bias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=_MAX_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimiser.zero_grad()
        error = torch.nn.functional.binary_cross_entropy_with_logits(x @ weights + bias, y, reduction="none")
        value = (w * error).sum() + RIDGE * (weights * weights).sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    row, (offset,) = (_rounded(tensor.detach().numpy()).tolist() for tensor in (weights, bias))
    return Head(weights=tuple(row), bias=offset)


def _rounded(values: npt.NDArray[np.floating]) -> Doubles:
    return np.array([float(f"{value:.6g}") for value in values.tolist()])
