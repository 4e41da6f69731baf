"""What readers call the contenders and recipes that benchmarks name in the form of `benchmarks.variants`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.variants import SAME_EVIDENCE


def side(text: str) -> str:
    """Return a recipe in words: `facecaptionhq-4m`, `same evidence`, `demo without screens, text runtime torch`."""
    name, *changes = text.split(";")
    if tuple(changes[: len(SAME_EVIDENCE)]) == SAME_EVIDENCE:
        name, changes = "same evidence", changes[len(SAME_EVIDENCE) :]
    name = Path(name).stem if name.endswith(".toml") else name
    taken = [change.removeprefix("-") for change in changes if change.startswith("-")]
    if taken:
        name, changes = f"{name} without {' and '.join(taken)}", [one for one in changes if not one.startswith("-")]
    return ", ".join([name, *map(_change, changes)])


def sides(texts: Sequence[str]) -> str:
    """Return two recipes in words; what is changed in both is said once."""
    (one, *here), (other, *there) = (text.split(";") for text in texts)
    both = [change for change in here if change in there and change not in SAME_EVIDENCE]
    apart = [
        side(";".join([name, *(change for change in changes if change not in both)]))
        for name, changes in ((one, here), (other, there))
    ]
    return " and ".join(apart) + (f" (both: {', '.join(map(_change, both))})" if both else "")


def contender(name: str, recipes: Mapping[str, str]) -> str:
    """Return a contender of `benchmarks.speed.throughput` in words; one without a recipe keeps its name."""
    return side(recipes[name]) if name in recipes else name.replace("_", " ")


def _change(change: str) -> str:
    """`text.measure.dtype="bfloat16"` is `text dtype bfloat16`."""
    place, _, value = change.partition("=")
    first, *keys = place.strip().split(".")
    words = [first, *keys[-1:], value.strip().strip("\"'")]
    return " ".join(words).strip().replace("_", " ").replace("|", "\\|")
