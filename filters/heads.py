"""Heads: small classifiers on a network's features, a row of weights each, in a JSON file with what taught them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from filters.base import Settings, TableSettings, WeightsFile
from filters.weights import WeightsError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class Head(TableSettings):
    """The logit is the weighted sum of the standardised features, and of squares along a few directions, and the bias.

    Without directions it is a logistic regression.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"directions", "curvatures"})
    weights: tuple[float, ...]
    bias: float
    directions: tuple[tuple[float, ...], ...] = ()
    """Rows of weights: the sum of the features by each is squared."""
    curvatures: tuple[float, ...] = ()
    """What each of these squares counts for."""


class Training(Settings):
    """What the heads were taught from; never the pictures themselves."""

    manifest_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the list of pictures: each one's sha256 and label, sorted (`curation.learning.heads.digest_of`)."""
    num_pictures: dict[str, int]
    """By label."""


class Heads(TableSettings):
    """The whole file."""

    LATER: ClassVar[frozenset[str]] = frozenset({"others", "roots_from"})
    format: Literal["facecaptionhq-heads-1"] = "facecaptionhq-heads-1"
    network_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the network's weights; on other features the heads mean nothing."""
    training: Training
    others: dict[str, Training] = Field(default={})
    """What taught those heads that were taken over from another file, by name."""
    roots_from: int | None = Field(default=None, ge=0)
    """From this feature on the square roots count, of what is below 0 none; None: every feature counts as it is."""
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    """Of each feature, or its root, over the pictures it was taught from."""
    clip: float = Field(gt=0)
    """Standardised features stay within this, so that no single one of an odd picture decides."""
    heads: dict[str, Head]

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        num_features = len(self.mean)
        if len(self.deviation) != num_features or min(self.deviation, default=0.0) <= 0:
            raise ValueError(f"deviation: {num_features} numbers above 0 are wanted, one for each mean")
        for name, head in self.heads.items():
            for where, row in (("weights", head.weights), *(("directions", row) for row in head.directions)):
                if len(row) != num_features:
                    raise ValueError(f"heads.{name}.{where}: {num_features} numbers are wanted, not {len(row)}")
            if len(head.curvatures) != (wanted := len(head.directions)):
                raise ValueError(f"heads.{name}.curvatures: {wanted} are wanted, one for each direction")
        return self

    def training_of(self, name: str) -> Training:
        """Return what taught a head."""
        return self.others.get(name, self.training)

    def written(self) -> str:
        """Return the file's text: the same heads give the same bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=None, separators=(",", ":")) + "\n"


@dataclass(frozen=True)
class Standard:
    """How features are made alike before heads weigh them."""

    roots_from: int | None
    mean: Doubles
    deviation: Doubles
    clip: float

    @classmethod
    def of(cls, heads: Heads) -> Self:
        """Return that of a file of heads."""
        return cls(heads.roots_from, np.array(heads.mean), np.array(heads.deviation), heads.clip)

    def __call__(self, features: Floats) -> Doubles:
        """Return rows of features, (..., features), standardised."""
        apart = (rooted(features, self.roots_from) - self.mean) / self.deviation
        return np.asarray(np.clip(apart, -self.clip, self.clip))


def rooted(features: Floats, roots_from: int | None) -> Doubles:
    """Return features in double precision, square roots in place of those from `roots_from` on."""
    values = features.astype(np.float64)
    if roots_from is not None:
        values[..., roots_from:] = np.sqrt(np.maximum(values[..., roots_from:], 0))
    return values


class Classifier:
    """Heads as arrays, ready for features."""

    def __init__(self, heads: Heads) -> None:
        """Keep the numbers, in double precision."""
        self._standard = Standard.of(heads)
        self._heads = {name: _Rows.of(head) for name, head in heads.heads.items()}

    def logits(self, features: Floats) -> dict[str, float]:
        """Return each head's logit of one picture's features, above 0 where its class is the likelier one."""
        row = self._standard(features)
        return {name: rows.logit(row) for name, rows in self._heads.items()}


@dataclass(frozen=True)
class _Rows:
    """A head as arrays."""

    weights_F: Doubles
    bias: float
    directions_DF: Doubles
    curvatures_D: Doubles

    @classmethod
    def of(cls, head: Head) -> Self:
        directions = np.array(head.directions).reshape(-1, len(head.weights))
        return cls(np.array(head.weights), head.bias, directions, np.array(head.curvatures))

    def logit(self, row: Doubles) -> float:
        squares = (self.directions_DF @ row) ** 2
        return float(row @ self.weights_F) + self.bias + float(squares @ self.curvatures_D)


def probability(logit: float) -> float:
    """Return the probability that a logit stands for where either class is as frequent as the other."""
    return 0.5 + 0.5 * math.tanh(logit / 2)


def read_heads(file: WeightsFile, network: WeightsFile, names: tuple[str, ...], num_features: int) -> Heads:
    """Return a file's heads, which must be taught on `network`, have `num_features` and bear all `names`.

    Raises:
        WeightsError: they are not; the message names the file and what is wrong with it.
    """
    try:
        heads = Heads.model_validate_json(Path(file.path).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise WeightsError(f"{file.path} holds no heads: {where and f'{where}: '}{first['msg']}") from error
    if heads.network_sha256 != network.sha256:
        raise WeightsError(
            f"{file.path}: taught on a network of sha256 {heads.network_sha256}, not on `{network.name}` "
            f"({network.sha256}); name the heads and the network that belong together"
        )
    if len(heads.mean) != num_features or not set(names) <= set(heads.heads):
        raise WeightsError(
            f"{file.path}: {num_features} features and the heads {', '.join(names)} are wanted; it has "
            f"{len(heads.mean)} and {', '.join(sorted(heads.heads)) or 'none'}"
        )
    return heads
