"""Agreement of age, gender and expression with the reference photo, by stand-ins that are here; never called Attr_c."""

from collections.abc import Sequence
from dataclasses import dataclass

from facemakeup.evaluation.estimate import Failure, Metric, Score, Value, mean_score

AGE_GAP = Metric("Age gap, years", 0.0, 100.0, "lower")
SAME_GENDER = Metric("Same gender", 0.0, 1.0, "higher")
SAME_EXPRESSION = Metric("Same expression", 0.0, 1.0, "neither")


@dataclass(frozen=True)
class Traits:
    """What a stand-in says of a face."""

    age: float | None = None
    """Years."""
    gender: str | None = None
    expression: str | None = None


def trait_agreement(
    identities: Sequence[str], traits: Sequence[Traits | Failure], references: Sequence[Traits | Failure]
) -> list[Score]:
    """Return the mean gap of ages, and how often gender and expression agree; none of what is not said."""
    pairs = list(zip(traits, references, strict=True))
    scores = [
        mean_score(AGE_GAP, "std", identities, [_each(ours, theirs, "age") for ours, theirs in pairs]),
        mean_score(SAME_GENDER, "std", identities, [_each(ours, theirs, "gender") for ours, theirs in pairs]),
        mean_score(SAME_EXPRESSION, "std", identities, [_each(ours, theirs, "expression") for ours, theirs in pairs]),
    ]
    return [score for score in scores if "not_said" not in score.failures]


def _each(ours: Traits | Failure, theirs: Traits | Failure, name: str) -> Value:
    if isinstance(ours, Failure):
        return ours
    if isinstance(theirs, Failure):
        return theirs
    one, other = getattr(ours, name), getattr(theirs, name)
    if one is None or other is None:
        return Failure("not_said")
    return abs(float(one) - float(other)) if name == "age" else float(one == other)
