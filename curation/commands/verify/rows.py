"""What a ledger's rows must be, whatever shard they stand in: one verdict each, and the one that the evidence gives."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curation.dataset.stages import CURATE, FORGET
from curation.dataset.tombstones import is_buried
from curation.measure.cascade import UNREADABLE
from curation.measure.columns import joint_scores, known_of
from curation.recipe.judge import NotYet, Verdict, judge
from curation.recipe.recipe import Recipe

Row = Mapping[str, Any]
Finding = tuple[str, str, str]
"""(uid, what is wrong, what would be right)."""
UNMEASURED = frozenset({CURATE.name, UNREADABLE, FORGET})
"""Who rejects without any evidence."""


def base_findings(rows: Sequence[Row]) -> Iterator[Finding]:
    """Yield what is wrong with verdicts and identities, of any stage's ledger."""
    kept: set[str] = set()
    keys: set[str] = set()
    for row in rows:
        uid, key = row["uid"], row["key"]
        yield from row_findings(row)
        if row["kept"] and uid in kept:
            yield kept_twice(uid)
        kept |= {uid} if row["kept"] else set()
        if key in keys:
            yield key_twice(uid, key)
        if key and "?" not in key:  # a key that was not UTF-8 has lost what told it from others
            keys.add(key)


def row_findings(row: Row) -> Iterator[Finding]:
    """Yield what is wrong with a row by itself."""
    uid, by, reason = row["uid"], row["rejected_by"], row["reason"]
    if row["kept"] != (by is None) or (by is None) != (reason is None):
        yield uid, f"kept {row['kept']}, rejected_by {by!r}, reason {reason!r}", "kept, or rejected with a reason"
    if by == FORGET and not is_buried(row):
        yield uid, "forgotten, but its row still says what it was", "null url and sha256, empty key"


def kept_twice(uid: str) -> Finding:
    """Return what is wrong with the second kept row of a uid."""
    return uid, "kept twice in this ledger", "every kept uid once"


def key_twice(uid: str, key: str) -> Finding:
    """Return what is wrong with the second row of a key."""
    return uid, f"key {key!r} stands twice in this ledger", "every key once"


def evidence_findings(rows: Sequence[Row], recipe: Recipe) -> Iterator[Finding]:
    """Yield where scores are not those of the evidence, and where the verdict is not what the recipe gives."""
    names = {plan.name for plan in recipe.filters}
    for row in rows:
        try:
            known = known_of(row, recipe)
            yield from _score_findings(row, known, recipe, names)
            yield from _verdict_findings(row, known, recipe, names)
        except (TypeError, KeyError, ValueError, AttributeError, AssertionError) as error:
            yield row["uid"], f"its evidence cannot be read: {error!r}", "evidence as its filter measures it"


def _score_findings(row: Row, known: Mapping[str, Any], recipe: Recipe, names: set[str]) -> Iterator[Finding]:
    for plan in recipe.measurers:
        right = None if known[plan.name] is None else plan.scores(known[plan.name])
        yield from _differing(row, f"{plan.name}_scores", right)
    if "joint_scores" in row:
        is_judged = row["kept"] or row["rejected_by"] in names
        yield from _differing(row, "joint_scores", joint_scores(known, recipe) if is_judged else None)


def _differing(row: Row, column: str, right: Mapping[str, float | None] | None) -> Iterator[Finding]:
    recorded = row[column] or {}
    for name in {*recorded, *(right or {})}:
        is_, should_be = recorded.get(name), (right or {}).get(name)
        if not _same(is_, should_be):
            yield row["uid"], f"{column}.{name} is {is_}", f"{should_be}, from its evidence"


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


def _verdict_findings(row: Row, known: Mapping[str, Any], recipe: Recipe, names: set[str]) -> Iterator[Finding]:
    uid, by, reason = row["uid"], row["rejected_by"], row["reason"]
    verdict = judge(known, recipe.criteria)
    if row["kept"]:
        if isinstance(verdict, NotYet):
            yield uid, f"kept, though {', '.join(verdict.filters)} never measured it", "kept only once all is decided"
        elif not verdict.kept:
            yield uid, "kept", f"rejected by {verdict.rejected_by} ({verdict.reason})"
    elif by in names:
        fails = any(
            criterion.filter == by and f"{criterion.score}_{criterion.settle(known).failure}" == reason
            for criterion in recipe.criteria
        )
        if not fails:
            right = f"{verdict.rejected_by} ({verdict.reason})" if isinstance(verdict, Verdict) else "not yet decided"
            yield uid, f"rejected by {by} ({reason}), which it does not fail", right
    elif by in UNMEASURED and any(value is not None for value in known.values()):
        yield uid, f"rejected by {by}, which looks at nothing, yet has evidence", "no evidence"
