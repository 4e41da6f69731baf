"""Ways to tell drawings from photographs by features, each from a lesson and rows to their scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from curation.learning.heads import Mask
from curation.learning.second_degree import along, products, shares_of
from filters.detectors.efficientnet_lite import NUM_INSIDE
from filters.heads import Doubles, Floats
from filters.heads import rooted as rooted_from

Rows = Floats
CLIP = 4.0
"""Of standardised features."""


@dataclass(frozen=True)
class Lesson:
    """Rows of features with what they show, weighed so that both sides count the same."""

    rows: Rows
    is_drawn: Mask
    weights: Doubles

    @classmethod
    def of(
        cls, views: Sequence[Rows], is_drawn: Mask, weights: Doubles, shares: Sequence[Sequence[float]] | None = None
    ) -> Self:
        """Return the lesson of photos with their views; `shares` say what each view counts for beside its others."""
        counts = [len(rows) for rows in views]
        positive, weight = np.repeat(is_drawn, counts), np.repeat(weights, counts)
        weight = weight if shares is None else weight * np.concatenate(shares)
        balanced = weight / np.where(positive, weight[positive].sum(), weight[~positive].sum()) / 2
        return cls(np.concatenate(views), positive, balanced)

    @property
    def rooted(self) -> "Lesson":
        """The same with square roots in place of the last layer's features."""
        return replace(self, rows=rooted(self.rows))

    def standard(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return its own rows and others, standardised as its own are."""
        mean, deviation = self.rows.mean(axis=0), self.rows.std(axis=0) + 1e-6
        one, other = (np.clip((some - mean) / deviation, -CLIP, CLIP).astype(np.float32) for some in (self.rows, rows))
        return one, other


@dataclass(frozen=True)
class Lessons:
    """What the same photos teach, in several forms."""

    photos: Lesson
    two_views: Lesson
    """Each photo and one variation."""
    views: Lesson
    """All views of each photo, one like the other."""
    weighed: Lesson
    """All views, each for what it counts where heads are taught."""
    by_source: Lesson
    by_kind: Lesson


def rooted(rows: Rows) -> Rows:
    """Return rows with square roots of the last layer's features."""
    return rooted_from(rows, NUM_INSIDE).astype(np.float32)


def logistic(lesson: Lesson, rows: Rows, ridge: float) -> Doubles:
    """Score by a logistic regression."""
    import torch

    taught, asked = lesson.standard(rows)
    x, y, w = (torch.tensor(values, dtype=torch.float32) for values in (taught, lesson.is_drawn, lesson.weights))
    weights, bias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimiser.zero_grad()
        error = torch.nn.functional.binary_cross_entropy_with_logits(x @ weights + bias, y, reduction="none")
        value = (w * error).sum() + ridge * (weights * weights).sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return np.asarray(asked @ weights.detach().numpy() + bias.item(), dtype=np.float64)


def hidden(lesson: Lesson, rows: Rows, width: int, num_networks: int = 2, num_epochs: int = 12) -> Doubles:
    """Score by the mean of small networks with one hidden layer, half of the features dropped by chance."""
    import torch
    from torch import nn

    taught, asked = (torch.tensor(values) for values in lesson.standard(rows))
    y, w = (torch.tensor(values, dtype=torch.float32) for values in (lesson.is_drawn, lesson.weights * len(taught)))
    scores = np.zeros(len(rows))
    for seed in range(num_networks):
        torch.manual_seed(seed)
        layers = (nn.Dropout(0.5), nn.Linear(taught.shape[1], width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 1))
        network = nn.Sequential(*layers)
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1)
        for batch in (batch for _ in range(num_epochs) for batch in torch.split(torch.randperm(len(taught)), 128)):
            optimiser.zero_grad()
            logits = network(taught[batch])[:, 0]
            error = nn.functional.binary_cross_entropy_with_logits(logits, y[batch], reduction="none")
            (w[batch] * error).mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        network.eval()
        scores += network(asked)[:, 0].detach().numpy()
    return np.asarray(scores / num_networks)


def nearest(lesson: Lesson, rows: Rows, num_neighbours: int) -> Doubles:
    """Score by the weight of drawings among the photos of the most similar direction."""
    taught, asked = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in lesson.standard(rows))
    alike = asked @ taught.T
    near = np.argpartition(-alike, num_neighbours, axis=1)[:, :num_neighbours]
    votes = np.where(lesson.is_drawn, 1.0, -1.0) * lesson.weights * np.exp(8 * alike)
    return np.asarray(np.take_along_axis(votes, near, axis=1).sum(axis=1), dtype=np.float64)


def radial(lesson: Lesson, rows: Rows, ridge: float) -> Doubles:
    """Score by ridge regression on a radial kernel as wide as the features are many."""
    taught, asked = lesson.standard(rows)

    def kernel(one: Rows, other: Rows) -> Doubles:
        apart = (one * one).sum(axis=1)[:, None] + (other * other).sum(axis=1) - 2 * one @ other.T
        return np.asarray(np.exp(-np.maximum(apart, 0) / one.shape[1] / 2), dtype=np.float64)

    return np.asarray(kernel(asked, taught) @ _solved(kernel(taught, taught), lesson, ridge))


def second_degree(lesson: Lesson, rows: Rows, ridge: float, num_directions: int | None = None) -> Doubles:
    """Score by ridge regression on features and all their products, or on the squares along a few directions."""
    taught, asked = lesson.standard(rows)
    shares = _solved(products(taught, taught), lesson, ridge)
    if num_directions is None:
        return np.asarray(products(asked, taught) @ shares)
    directions, curvatures = along(taught, shares, num_directions)
    linear = shares.sum() + 2 * asked @ (taught.T @ shares) / taught.shape[1]
    return np.asarray(linear + (asked @ directions.T) ** 2 @ curvatures)


def stacked(scores: Doubles, sides: Doubles, is_drawn: Mask, weights: Doubles, folds: npt.NDArray[np.int64]) -> Doubles:
    """Score by a second regression on scores of sources left out and on the logarithm of the face's side."""
    rows = np.stack([scores, np.log1p(sides), scores * np.log1p(sides), sides == 0], axis=1).astype(np.float32)
    found = np.empty(len(rows))
    for number in np.unique(folds):
        taught = (folds != number) & (weights > 0)
        lesson = Lesson.of(list(rows[taught][:, None]), is_drawn[taught], weights[taught])
        found[folds == number] = logistic(lesson, rows[folds == number], 0.001)
    return found


def _solved(kernel: Doubles, lesson: Lesson, ridge: float) -> Doubles:
    return shares_of(kernel, lesson.is_drawn, lesson.weights, ridge)[0]
