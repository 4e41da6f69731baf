"""CLIP-T, CLIP-I and DINO: cosines, times 100, of a network's features of picture and text, or picture and reference.

What differs between `std` and `compat` is which features the network gives (`facemakeup.evaluation.networks`):

| metric | std | compat |
|---|---|---|
| CLIP-T | projected text and picture | the reference published no script: none |
| CLIP-I | projected picture (DreamBooth, arXiv 2208.12242) | pooled output before the projection |
| DINO | class token after the last norm | pooled output of a layer that the checkpoint lacks, so random |
"""

from collections.abc import Sequence

import numpy as np

from facemakeup.evaluation.cosine import cosines
from facemakeup.evaluation.estimate import Failure, Floats, Metric, Score, Value, Variant, mean_score

CLIP_T = Metric("CLIP-T", -100.0, 100.0, "higher")
CLIP_I = Metric("CLIP-I", -100.0, 100.0, "higher")
DINO = Metric("DINO", -100.0, 100.0, "higher")
RANDOM_POOLER = "the checkpoint has no pooler: its layer is random, and drawn with a fixed seed here"


def similarity(
    metric: Metric,
    variant: Variant,
    identities: Sequence[str],
    features: Sequence[Floats | Failure],
    against: Sequence[Floats | Failure],
    warnings: Sequence[str] = (),
) -> Score:
    """Return the mean cosine, times 100, of each picture's features with what it is held against."""
    return mean_score(metric, variant, identities, similarities(features, against), warnings=warnings)


def similarities(features: Sequence[Floats | Failure], against: Sequence[Floats | Failure]) -> list[Value]:
    """Return 100 cosines, or for a pair the failure of either side."""
    values: list[Value] = []
    for one, other in zip(features, against, strict=True):
        if isinstance(one, Failure):
            values.append(one)
        elif isinstance(other, Failure):
            values.append(other)
        else:
            values.append(100.0 * float(cosines(np.atleast_2d(one), np.atleast_2d(other))[0]))
    return values
