"""Heads: small classifiers on a network's features, a row of weights each, in a JSON file with what taught them."""

import json
import math
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from filters.base import Settings, TableSettings, WeightsFile
from filters.weights import WeightsError

Floats = npt.NDArray[np.float32]


class Head(Settings):
    """One logistic regression: the logit is the weighted sum of the standardised features, and the bias."""

    weights: tuple[float, ...]
    bias: float


class Training(Settings):
    """What the heads were taught from; never the pictures themselves."""

    manifest_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the list of pictures: each one's sha256 and label, sorted (`curation.learning.heads.digest_of`)."""
    num_pictures: dict[str, int]
    """By label."""


class Heads(TableSettings):
    """The whole file."""

    LATER: ClassVar[frozenset[str]] = frozenset({"others"})
    format: Literal["facecaptionhq-heads-1"] = "facecaptionhq-heads-1"
    network_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the network's weights; on other features the heads mean nothing."""
    training: Training
    others: dict[str, Training] = Field(default={})
    """What taught those heads that were taken over from another file, by name."""
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    """Of each feature, over the pictures it was taught from."""
    clip: float = Field(gt=0)
    """Standardised features stay within this, so that no single one of an odd picture decides."""
    heads: dict[str, Head]

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        num_features = len(self.mean)
        if len(self.deviation) != num_features or min(self.deviation, default=0.0) <= 0:
            raise ValueError(f"deviation: {num_features} numbers above 0 are wanted, one for each mean")
        for name, head in self.heads.items():
            if len(head.weights) != num_features:
                raise ValueError(f"heads.{name}.weights: {num_features} numbers are wanted, not {len(head.weights)}")
        return self

    def training_of(self, name: str) -> Training:
        """Return what taught a head."""
        return self.others.get(name, self.training)

    def written(self) -> str:
        """Return the file's text: the same heads give the same bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=None, separators=(",", ":")) + "\n"


class Classifier:
    """Heads as arrays, ready for features."""

    def __init__(self, heads: Heads) -> None:
        """Keep the numbers, in double precision."""
        self._mean = np.array(heads.mean)
        self._deviation = np.array(heads.deviation)
        self._clip = heads.clip
        self._heads = {name: (np.array(head.weights), head.bias) for name, head in heads.heads.items()}

    def logits(self, features: Floats) -> dict[str, float]:
        """Return each head's logit of one picture's features, above 0 where its class is the likelier one."""
        standard = np.clip((features.astype(np.float64) - self._mean) / self._deviation, -self._clip, self._clip)
        return {name: float(standard @ weights) + bias for name, (weights, bias) in self._heads.items()}


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
