"""What a caption claims of its picture that evidence may contradict: how many people, colour, a drawing.

Few claims, and only those that a sentence makes outright; what the text leaves open contradicts nothing. A claim is
held against what a filter measured of this very picture, where one did.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_PEOPLE = (
    r"(?:people|persons|men|women|boys|girls|children|kids|babies|toddlers|individuals|faces|friends|couples|ladies"
    r"|gentlemen|actors|actresses|players|adults|teenagers|twins|sisters|brothers|siblings|colleagues|soldiers)"
)
_MANY = r"(?:two|three|four|five|six|seven|eight|nine|ten|several|many|multiple|numerous|both|(?:[2-9]|[1-9]\d))"
SEVERAL = re.compile(
    rf"\b{_MANY}\s+(?:[\w-]+\s+){{0,2}}?{_PEOPLE}\b"
    rf"|\ba\s+(?:large |small )?(?:group|crowd|pair|couple|number|row|team)\s+of\s+(?:[\w-]+\s+){{0,2}}?{_PEOPLE}\b"
    r"|\ba\s+(?:[\w-]+\s+)?couple\s+(?:is|are|in|on|at|with|pos\w+|stand\w*|sit\w*|smil\w+|kiss\w*|danc\w+|hold\w*)\b"
    r"|\b(?:man and (?:a )?woman|woman and (?:a )?man|mother and (?:her )?(?:son|daughter|child|baby)"
    r"|father and (?:his )?(?:son|daughter|child|baby)|husband and wife|bride and groom)\b",
    re.IGNORECASE,
)
NOBODY = re.compile(
    r"\b(?:no|without(?: any)?|zero)\s+(?:visible |discernible )?"
    r"(?:people|persons?|faces?|humans?|human (?:face|being)s?)\b|\b(?:there is|there's|with) (?:no[- ]?one|nobody)\b",
    re.IGNORECASE,
)
GREY = re.compile(
    r"\b(?:black[- ]and[- ]white|black & white|b&w|monochrom(?:e|atic)|gr[ae]y[- ]?scale|sepia(?:[- ]toned)?)\s+"
    r"(?:\w+\s+){0,2}?(?:photo\w*|picture|image|portrait|shot|headshot|snapshot)\b"
    r"|\b(?:photo\w*|picture|image|portrait|shot) (?:is|was taken|in|taken in)\s+(?:in )?"
    r"(?:black[- ]and[- ]white|monochrome|gr[ae]y[- ]?scale|sepia)\b",
    re.IGNORECASE,
)
DRAWN = re.compile(
    r"^\W*(?:(?:this|the|here)(?:'s| is)?\s+(?:image|picture|photo|is)?\s*(?:is|shows|depicts|features|of)?\s*)?"
    r"(?:an?|the)\s+(?:[\w-]+\s+){0,3}?(?:drawing|cartoon|illustration|anime|manga|painting|sketch|caricature|rendering"
    r"|3d render|animation)\b",
    re.IGNORECASE,
)
CLEARLY_COLOURED = 5.0
"""`mean_channel_std` from which nobody would call a picture black and white, in grey levels."""
CLEARLY_A_PHOTO = 0.1
"""`drawn_probability` below which nobody would call it a drawing."""


@dataclass(frozen=True)
class Claim:
    """One thing that a text may say, and the score that may say otherwise."""

    reason: str
    pattern: re.Pattern[str]
    filter: str
    score: str
    is_wrong: Callable[[float], bool]
    """Whether a score contradicts who says so."""


CLAIMS = (
    Claim("contradicts_faces", SEVERAL, "faces", "num_faces", lambda num: num <= 1),
    Claim("contradicts_faces", NOBODY, "faces", "num_faces", lambda num: num >= 1),
    Claim("contradicts_colour", GREY, "colour", "mean_channel_std", lambda std: std >= CLEARLY_COLOURED),
    Claim("contradicts_drawn", DRAWN, "drawn", "drawn_probability", lambda p: p <= CLEARLY_A_PHOTO),
)


def contradiction(text: str, row: Mapping[str, Any]) -> str | None:
    """Return the first claim of a text that a row of the curated ledger contradicts, as a reason, or None."""
    for claim in CLAIMS:
        if claim.pattern.search(text) is not None:
            value = _score(row, claim.filter, claim.score)
            if value is not None and claim.is_wrong(value):
                return claim.reason
    return None


def columns_of(names: list[str]) -> list[str]:
    """Return those of a curated ledger's columns that claims are held against."""
    filters = {claim.filter for claim in CLAIMS}
    return [name for name in names if name.endswith("_scores") and _filter_of(name) in filters]


def _score(row: Mapping[str, Any], name: str, score: str) -> float | None:
    """Return a score of a filter, or of a screen that stood in for it; None where nobody measured."""
    columns = (column for column in row if column.endswith("_scores") and _filter_of(column) == name)
    values = (row[column].get(score) for column in columns if row[column] is not None)
    return next((float(value) for value in values if value is not None), None)


def _filter_of(column: str) -> str:
    """Return the filter that a column of scores, its own or a screen's, belongs to."""
    return column.removesuffix("_scores").partition("_screen")[0]
