"""Attr_c: how many of CelebA's 40 attributes a classifier is sure of; and whether they are the reference's.

The reference counts probabilities above 0.85 in the whole picture (`compat`): "Male" and "Blurry" count as richness,
and nothing is compared. `std` compares with the reference photo: F1 over the 40 attributes at probability 0.5. Real
labels of CelebA's test set have 9.25 attributes on average.
"""

from collections.abc import Sequence

import numpy as np

from facemakeup.evaluation.estimate import Failure, Floats, Metric, Score, Value, mean_score

NUM_ATTRIBUTES = 40
ATTR_C = Metric("Attr_c", 0.0, float(NUM_ATTRIBUTES), "higher")
ATTRIBUTE_F1 = Metric("Attribute F1", 0.0, 1.0, "higher")
SURE = 0.85
PRESENT = 0.5


def num_sure(logits_A: Floats) -> int:
    """Return how many attributes have a sigmoid strictly above 0.85."""
    return int((_sigmoid(logits_A) > SURE).sum())


def f1(logits_A: Floats, reference_A: Floats) -> float:
    """Return F1 of the attributes of a picture against those of its reference; 1 where neither has any."""
    ours, theirs = _sigmoid(logits_A) > PRESENT, _sigmoid(reference_A) > PRESENT
    num_named = int(ours.sum() + theirs.sum())
    return 2.0 * int((ours & theirs).sum()) / num_named if num_named else 1.0


def attribute_count(identities: Sequence[str], logits: Sequence[Floats | Failure]) -> Score:
    """Return the mean number of sure attributes, as the reference counts."""
    values: list[Value] = [each if isinstance(each, Failure) else float(num_sure(each)) for each in logits]
    return mean_score(ATTR_C, "compat", identities, values)


def attribute_f1(
    identities: Sequence[str], logits: Sequence[Floats | Failure], references: Sequence[Floats | Failure]
) -> Score:
    """Return the mean agreement with the reference."""
    values: list[Value] = []
    for ours, theirs in zip(logits, references, strict=True):
        if isinstance(ours, Failure):
            values.append(ours)
        else:
            values.append(theirs if isinstance(theirs, Failure) else f1(ours, theirs))
    return mean_score(ATTRIBUTE_F1, "std", identities, values)


def _sigmoid(logits_A: Floats) -> Floats:
    logits = np.asarray(logits_A, dtype=np.float64)
    if logits.shape != (NUM_ATTRIBUTES,):
        raise ValueError(f"a picture has {NUM_ATTRIBUTES} attributes, not an array {logits.shape}")
    return np.asarray(1 / (1 + np.exp(-logits)))
