"""Parts the pictures of a run by what labels of them would tell: near a limit, contested, disputed, or neither."""

from collections.abc import Iterator

from curation.commands.review.columns import HIGH, LOW, proofs_of
from curation.commands.review.queue import CONTESTED, CONTROL, DISAGREE, NEAR, Stratum
from curation.commands.review.table import NEVER_SHOWN, RowTable
from curation.commands.review.whatif import WAITS, mask, name_of, number, quoted
from curation.recipe.recipe import Recipe

REACH = 0.25
"""How far from a limit a score may lie and still be near it, in spreads."""
SPREAD = (0.16, 0.84)
"""The quantiles of a score between which its spread lies: two standard deviations of a normal one."""
TWINS = (("anime", "drawn"),)
"""Filters that look for the same thing in different ways."""
CANDIDATES = f"judged AND is_first AND coalesce(rejected_by, '') NOT IN {NEVER_SHOWN}"


def strata_of(table: RowTable, num: int, seed: int) -> tuple[Stratum, ...]:
    """Return the strata that have pictures, each with its first `num` in the order of their tokens.

    A picture belongs to the first that fits: two detectors of the same thing contradict one another (a screen's proof
    and its filter, or `TWINS`); one filter alone rejects it, against all others; a score lies near a limit, on the
    nearest such side. Counts have no near cases: most of them sit on their limit.
    """
    query = f"""
        WITH judged_rows AS (SELECT *, {mask(table.recipe)} AS mask FROM rows WHERE {CANDIDATES}),
        parted AS (SELECT uid, {_stratum(table)} AS stratum FROM judged_rows),
        ordered AS (
            SELECT stratum, uid, count(*) OVER (PARTITION BY stratum) AS size,
                   row_number() OVER (PARTITION BY stratum ORDER BY md5(? || ' ' || uid)) AS place
            FROM parted
        )
        SELECT stratum, size, uid FROM ordered WHERE place <= ? ORDER BY stratum, place
    """
    sizes: dict[str, int] = {}
    uids: dict[str, list[str]] = {}
    for stratum, size, uid in table.ask(query, [str(seed), num]):
        sizes[stratum] = size
        uids.setdefault(stratum, []).append(uid)
    return tuple(Stratum(name, sizes[name], tuple(uids[name])) for name in sizes)


def _stratum(table: RowTable) -> str:
    """Return the expression for the name of a row's stratum."""
    disputed = " OR ".join((*_contradictions(table.recipe), *_twins(table.recipe))) or "false"
    near = [(name, distance) for name, distance in _distances(table)]
    nearest = ", ".join(distance for _, distance in near) or "NULL"
    cases = " ".join(f"WHEN {distance} = least({nearest}) THEN '{name}'" for name, distance in near)
    return f"""CASE
        WHEN {disputed} THEN '{DISAGREE}'
        WHEN {_alone(table.recipe)} THEN '{CONTESTED}'
        WHEN least({nearest}) <= {REACH} THEN CASE {cases} ELSE '{CONTROL}' END
        ELSE '{CONTROL}' END"""


def _contradictions(recipe: Recipe) -> Iterator[str]:
    """Yield where a screen has proven of a score what its filter has measured otherwise."""
    for proof in proofs_of(recipe):
        if proof.joint is None:
            own = quoted(proof.column.partition(" > ")[2])
            yield f"coalesce({own} < {quoted(proof.column + LOW)} OR {own} > {quoted(proof.column + HIGH)}, false)"


def _twins(recipe: Recipe) -> Iterator[str]:
    for pair in TWINS:
        bits = [_bits(recipe, name) for name in pair]
        if all(bits):
            fails = [f"(mask & {mine} <> 0)" for mine in bits]
            speaks = [f"(mask & {mine} <> 0 OR mask & {mine << WAITS} = 0)" for mine in bits]
            yield f"({' AND '.join(speaks)} AND {fails[0]} <> {fails[1]})"


def _alone(recipe: Recipe) -> str:
    """Return where exactly one filter rejects, and nobody is left to be asked."""
    everyone = (1 << WAITS) - 1
    filters = dict.fromkeys(criterion.filter for criterion in recipe.criteria)
    if len(filters) < 2:
        return "false"
    mine = [_bits(recipe, name) for name in filters]
    alone = (f"(mask & {bits} <> 0 AND mask & {everyone & ~bits} = 0)" for bits in mine)
    return f"mask <= {everyone} AND ({' OR '.join(alone)})"


def _bits(recipe: Recipe, name: str) -> int:
    return sum(1 << bit for bit, criterion in enumerate(recipe.criteria) if criterion.filter == name)


def _distances(table: RowTable) -> Iterator[tuple[str, str]]:
    """Yield every side of every limit with the expression of how near a score is to it from there, in spreads."""
    for criterion in table.recipe.criteria:
        column, name = quoted(name_of(criterion)), name_of(criterion)
        if criterion.score.startswith("num_"):
            continue
        ((low, high),) = table.ask(
            f"SELECT quantile_cont({column}, {SPREAD[0]}), quantile_cont({column}, {SPREAD[1]}) FROM rows "
            f"WHERE judged AND isfinite({column})"
        )
        if low is None or high <= low:
            continue
        for limit, inside in ((criterion.keep.min, ">="), (criterion.keep.max, "<=")):
            if limit is not None:
                distance = f"abs({column} - {number(limit)}) / {number((high - low) / 2)}"
                is_inside = f"{column} {inside} {number(limit)}"
                for side, test in (("inside", is_inside), ("outside", f"NOT {is_inside}")):
                    yield f"{NEAR} {name} {side}", f"(CASE WHEN {test} THEN {distance} END)"
