"""What another recipe would decide, from the ledgers alone: certain where the evidence settles it, else estimated.

A rejected sample was often cut short: later filters never saw it. The shadow sample was measured in full all the same,
so it tells what share of those that another recipe leaves undecided would be kept.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.intervals import wilson
from curation.measure.cascade import in_shadow, missing, turns
from curation.measure.columns import known_of
from curation.recipe.judge import NotYet, Verdict, judge
from curation.recipe.recipe import Recipe


@dataclass(frozen=True)
class Opinion:
    """What a recipe says of one row of a ledger before anything is measured."""

    row: Mapping[str, Any]
    before: Verdict
    known: Mapping[str, Any]
    """Evidence that still holds, by filter of the new recipe."""
    after: Verdict | NotYet
    wanted: tuple[str, ...]
    """Filters that must measure the sample first."""
    perhaps: tuple[str, ...] = ()
    """Filters that may have to measure it after them, which only what those find can tell."""


@dataclass(frozen=True)
class Change:
    """A sample that certainly changes sides."""

    uid: str
    shard: str
    before: Verdict
    after: Verdict


@dataclass(frozen=True)
class Preview:
    """What deciding again would give and cost; previews of shards add up."""

    num_seen: int = 0
    num_kept_before: int = 0
    num_kept: int = 0
    """Certainly kept."""
    rejected: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Certainly rejected: rejected_by -> reason -> number."""
    num_undecided: int = 0
    """Must be measured before they can be judged."""
    num_undecided_kept: int = 0
    """Those of them that are kept now; no shadow sample stands for them."""
    calls: Mapping[str, int] = field(default_factory=dict)
    """Filter -> pictures that it would measure at once: exact, not an estimate."""
    calls_at_most: Mapping[str, int] = field(default_factory=dict)
    """Filter -> pictures that it may have to measure after those calls, no more: behind a screen that leaves them in
    doubt, or where a column no longer holds and the verdict turns."""
    num_shards: int = 0
    """Shards of which a file would be written anew; undecided samples count as changes."""
    changes: tuple[Change, ...] = ()
    shadow_hits: int = 0
    """How many shadow samples would be kept, of those that stand for the undecided ones that are rejected now."""
    shadow_trials: int = 0

    @property
    def kept_interval(self) -> tuple[int, int]:
        """Bounds of the number kept: exact where nothing is undecided, else with 95 % confidence (Wilson).

        Of the undecided ones that are kept now, anything between none and all may stay.
        """
        low, high = wilson(self.shadow_hits, self.shadow_trials)
        num_rejected = self.num_undecided - self.num_undecided_kept
        most = self.num_kept + self.num_undecided_kept + round(high * num_rejected)
        return self.num_kept + round(low * num_rejected), most

    @property
    def kept_expected(self) -> int | None:
        """The best guess of the number kept; None where undecided samples have no shadow."""
        if not self.num_undecided:
            return self.num_kept
        if self.num_undecided_kept or not self.shadow_trials:
            return None
        return self.num_kept + round(self.num_undecided * self.shadow_hits / self.shadow_trials)


def opinion(row: Mapping[str, Any], recipe: Recipe, usable: frozenset[str], filters_before: frozenset[str]) -> Opinion:
    """Judge one row of a ledger by a recipe, as far as its evidence goes.

    `usable` are the filters whose column still holds; `filters_before` those of the recipe that wrote the ledger. A
    row that no filter rejected (unreadable, duplicate, quarantined, ...) keeps its verdict.
    """
    before = Verdict(row["rejected_by"], row["reason"])
    if before.rejected_by is not None and before.rejected_by not in filters_before:
        return Opinion(row, before, {}, before, ())
    known = known_of(row, recipe, usable)
    after = judge(known, recipe.criteria)
    wanted = _wanted(row, known, after, recipe)
    return Opinion(row, before, known, after, wanted, _perhaps(row, known, wanted, recipe))


def preview_of(
    shard: str, opinions: Sequence[Opinion], recipe: Recipe, recipes: Sequence[Recipe], is_rewritten: bool
) -> Preview:
    """Add up the opinions on one shard; `recipes` are those that judged it so far, oldest first."""
    certain = [judged for judged in opinions if isinstance(judged.after, Verdict)]
    rejected: dict[str, Counter[str]] = {}
    for judged in certain:
        if isinstance(judged.after, Verdict) and judged.after.rejected_by is not None:
            rejected.setdefault(judged.after.rejected_by, Counter())[str(judged.after.reason)] += 1
    shadow = [judged for judged in certain if _stands_in(judged, recipe, recipes)]
    return Preview(
        num_seen=len(opinions),
        num_kept_before=sum(judged.before.kept for judged in opinions),
        num_kept=len(certain) - sum(sum(reasons.values()) for reasons in rejected.values()),
        rejected=rejected,
        num_undecided=len(opinions) - len(certain),
        num_undecided_kept=sum(judged.before.kept for judged in opinions if isinstance(judged.after, NotYet)),
        calls=Counter(name for judged in opinions for name in judged.wanted),
        calls_at_most=Counter(name for judged in opinions for name in judged.perhaps),
        num_shards=int(is_rewritten),
        changes=tuple(
            Change(judged.row["uid"], shard, judged.before, judged.after)
            for judged in opinions
            if isinstance(judged.after, Verdict) and judged.after.kept != judged.before.kept
        ),
        shadow_hits=sum(isinstance(judged.after, Verdict) and judged.after.kept for judged in shadow),
        shadow_trials=len(shadow),
    )


def add(previews: Sequence[Preview]) -> Preview:
    """Return the sum of the previews of all shards."""
    rejected: dict[str, Counter[str]] = {}
    for preview in previews:
        for by, reasons in preview.rejected.items():
            rejected.setdefault(by, Counter()).update(reasons)
    return Preview(
        num_seen=sum(preview.num_seen for preview in previews),
        num_kept_before=sum(preview.num_kept_before for preview in previews),
        num_kept=sum(preview.num_kept for preview in previews),
        rejected={by: dict(sorted(reasons.items())) for by, reasons in sorted(rejected.items())},
        num_undecided=sum(preview.num_undecided for preview in previews),
        num_undecided_kept=sum(preview.num_undecided_kept for preview in previews),
        calls=dict(sum((Counter(preview.calls) for preview in previews), Counter())),
        calls_at_most=dict(sum((Counter(preview.calls_at_most) for preview in previews), Counter())),
        num_shards=sum(preview.num_shards for preview in previews),
        changes=tuple(change for preview in previews for change in preview.changes),
        shadow_hits=sum(preview.shadow_hits for preview in previews),
        shadow_trials=sum(preview.shadow_trials for preview in previews),
    )


def _wanted(
    row: Mapping[str, Any], known: Mapping[str, Any], after: Verdict | NotYet, recipe: Recipe
) -> tuple[str, ...]:
    """Return what must measure first.

    Columns that no longer hold come first, since they may settle the verdict alone; without such, all that is still
    undecided. A rejected shadow sample is measured as far as the recipe's own shadow would be, or it would say less
    with every screen or filter that is added or renewed.
    """
    unmeasured = tuple(name for name, evidence in known.items() if evidence is None)
    if recipe.file.curate.measure == "all":
        return unmeasured
    stale = tuple(name for name in unmeasured if row.get(f"{name}_evidence") is not None)
    if isinstance(after, NotYet):
        return tuple(name for name in after.filters if name in stale) or after.filters
    is_shadow = not after.kept and in_shadow(row["uid"], recipe.file.curate.shadow_fraction)
    return missing(known, recipe) if is_shadow else ()


def _perhaps(
    row: Mapping[str, Any], known: Mapping[str, Any], wanted: Sequence[str], recipe: Recipe
) -> tuple[str, ...]:
    """Return who may be asked once those who are wanted have measured: whoever an open criterion can still ask."""
    if not wanted:
        return ()
    waiting = [criterion for criterion in recipe.criteria if criterion.settle(known).waiting]
    names = {name for criterion in waiting for name in criterion.inputs}
    names |= {name for criterion in waiting for screening in criterion.screens for name in screening.inputs}
    if in_shadow(row["uid"], recipe.file.curate.shadow_fraction):
        names |= set(missing(known, recipe))
    return tuple(name for name in known if known[name] is None and name in names and name not in wanted)


def _stands_in(judged: Opinion, recipe: Recipe, recipes: Sequence[Recipe]) -> bool:
    """Whether a shadow sample would be undecided now, had it been cut short like every other rejected one."""
    if judged.before.kept or not judged.known:
        return False
    now = known_had_it_been_cut_short(judged.row, judged.known, recipe, recipes)
    return now is not None and isinstance(judge(now, recipe.criteria), NotYet)


def known_had_it_been_cut_short(
    row: Mapping[str, Any], known: Mapping[str, Any], recipe: Recipe, recipes: Sequence[Recipe]
) -> dict[str, Any] | None:
    """Return what would be known of a rejected row by `recipe`, were it in no shadow; None if it stands for nobody.

    `known` is what the row holds for `recipe`; `recipes` are those that judged it so far, oldest first. What they would
    have measured of it is played through, which asks for nothing that the last of them has no column for.
    """
    fraction = min(before.file.curate.shadow_fraction for before in recipes)
    if not in_shadow(row["uid"], fraction):
        return None
    columns = {plan.name: plan.filter for plan in recipes[-1].measurers}
    if any(columns.get(plan.name) != plan.filter for before in recipes for plan in before.measurers):
        return None
    full = known_of(row, recipes[-1])
    if missing(known, recipe) or missing(full, recipes[-1]):
        return None
    cut = _cut_short(full, recipes)
    return {name: evidence if cut.get(name) is not None else None for name, evidence in known.items()}


def _cut_short(full: Mapping[str, Any], recipes: Sequence[Recipe]) -> dict[str, Any]:
    """Return what would be known of a sample that is in nobody's shadow.

    The first recipe measures as a cascade; each later one drops what it measures otherwise, measures what is undecided
    without that, and goes on as a cascade.
    """
    cut: dict[str, Any] = dict.fromkeys(full)
    columns: dict[str, Any] = {}
    for recipe in recipes:
        before, measures = columns, {plan.name: plan.measure for plan in recipe.measurers}
        columns = {
            plan.name: (plan.filter, plan.measure, [measures[name] for name in plan.inputs])
            for plan in recipe.measurers
        }
        stale = {name for name, known in cut.items() if known is not None and columns.get(name) != before[name]}
        cut |= dict.fromkeys(stale)
        verdict = judge(cut, recipe.criteria)
        if before and isinstance(verdict, NotYet):
            asked = [name for name in verdict.filters if name in stale] or verdict.filters
            cut |= {name: full[name] for name in asked}
        _play(cut, full, recipe)
    return cut


def _play(cut: dict[str, Any], full: Mapping[str, Any], recipe: Recipe) -> None:
    """Add to what is known what a recipe's cascade would have measured, of what was."""

    def is_asked(name: str) -> bool:
        verdict = judge(cut, recipe.criteria)
        return isinstance(verdict, NotYet) and name in verdict.filters and full[name] is not None

    for name in turns(recipe.order, is_asked):
        cut[name] = full[name]
