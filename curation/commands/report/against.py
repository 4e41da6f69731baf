"""Two runs over the same pictures: who changed sides from the other one to this, and in what their recipes differ."""

from dataclasses import dataclass
from pathlib import Path

from curation.commands.report.choice import NUM_PER_SHEET, Choice, RowPlace
from curation.commands.report.flow import FinishedStage, read_stages
from curation.commands.report.ledgers import ledger_paths
from curation.dataset.manifest import MANIFEST_NAME, read_manifest
from curation.dataset.stages import CURATE
from curation.errors import UsageError
from curation.recipe.differences import RecipeChange, differences
from curation.storage.publish import sha256_of
from curation.storage.scratch import scratch_database

MAX_DIFFERENCES = 60
CAME_IN, WENT_OUT, OTHER_REASON = "came in", "went out", "rejected otherwise"
ONE_ROW_SQL = """
CREATE TEMP TABLE {name} AS
SELECT uid, max(standing) AS standing, max(struct_pack(rank := standing, by_whom := coalesce(rejected_by, ''),
    reason := coalesce(reason, ''), stem := parse_filename(filename, true), number := file_row_number)) AS best
FROM (SELECT *, CASE WHEN kept THEN 2 WHEN reason = 'duplicate_uid' THEN 0 ELSE 1 END AS standing
      FROM read_parquet(?, filename = true, file_row_number = true))
GROUP BY uid
"""
"""A uid may stand in several rows, of copies: the kept one counts, then what a filter said."""
COUNTS_SQL = """
SELECT before.best.by_whom, before.best.reason, now.best.by_whom, now.best.reason, count(*) AS num
FROM now JOIN before USING (uid)
WHERE (before.best.by_whom, before.best.reason) IS DISTINCT FROM (now.best.by_whom, now.best.reason)
GROUP BY ALL ORDER BY num DESC, 1, 2, 3, 4
"""
SIDES_SQL = """
SELECT count(*) FILTER (WHERE now.uid IS NOT NULL AND before.uid IS NOT NULL),
       count(*) FILTER (WHERE before.uid IS NULL), count(*) FILTER (WHERE now.uid IS NULL)
FROM now FULL JOIN before USING (uid)
"""
SHOWN_SQL = """
SELECT now.best.stem, now.best.number FROM now JOIN before USING (uid)
WHERE before.best.by_whom = ? AND before.best.reason = ? AND now.best.by_whom = ? AND now.best.reason = ?
ORDER BY md5(uid || ?) LIMIT ?
"""


@dataclass(frozen=True)
class SideChange:
    """Samples that the other run judged so and this one otherwise; who kept them is nobody, with no reason."""

    before_by: str
    before_reason: str
    now_by: str
    now_reason: str
    count: int

    @property
    def kind(self) -> str:
        """Whether they came in, went out, or are rejected for another reason."""
        if not self.before_by:
            return WENT_OUT
        return OTHER_REASON if self.now_by else CAME_IN

    @property
    def name(self) -> str:
        """Both verdicts, in words."""
        return f"{verdict(self.before_by, self.before_reason)} → {verdict(self.now_by, self.now_reason)}"


@dataclass(frozen=True)
class Comparison:
    """The other run held against this one."""

    recipe_name: str
    recipe_digest: str
    num_kept_before: int
    num_both: int
    num_only_now: int
    num_only_before: int
    moves: tuple[SideChange, ...]
    differences: tuple[RecipeChange, ...]
    num_differences: int
    choices: tuple[Choice, ...]

    def num(self, kind: str) -> int:
        """Return how many samples came in, went out, or are rejected otherwise."""
        return sum(move.count for move in self.moves if move.kind == kind)


def compare(curated: FinishedStage, other: Path, num_per_sheet: int = NUM_PER_SHEET, seed: int = 0) -> Comparison:
    """Return who changed sides, by uid, from the run or curated folder `other` to this one.

    Raises:
        UsageError: there is no finished `curate` in `other`.
        ShardError: a ledger cannot be read.
    """
    before = _curated(other)
    paths = {name: _paths(stage) for name, stage in (("now", curated), ("before", before))}
    with scratch_database() as database:
        for name, files in paths.items():
            database.execute(ONE_ROW_SQL.format(name=name), [files])
        moves = tuple(SideChange(*row) for row in database.execute(COUNTS_SQL).fetchall())
        both, only_now, only_before = database.execute(SIDES_SQL).fetchone() or (0, 0, 0)
        choices = []
        for move in moves:
            asked = [move.before_by, move.before_reason, move.now_by, move.now_reason, str(seed), num_per_sheet]
            places = tuple(RowPlace(stem, number) for stem, number in database.execute(SHOWN_SQL, asked).fetchall())
            choices.append(Choice("changed", move.name, move.count, places))
    changes = list(differences(before.manifest.recipe, curated.manifest.recipe))
    manifest = before.manifest
    return Comparison(
        manifest.recipe_name, manifest.recipe_digest, manifest.num_kept, both, only_now, only_before,
        moves, tuple(changes[:MAX_DIFFERENCES]), len(changes), tuple(choices),
    )  # fmt: skip


def verdict(by: str, reason: str) -> str:
    """Return a verdict in words."""
    return f"{by} {reason}" if by else "kept"


def _curated(other: Path) -> FinishedStage:
    if (other / CURATE.name).is_dir():
        stages, _ = read_stages(other)
        return next(stage for stage in stages if stage.name == CURATE.name)
    if not (other / MANIFEST_NAME).is_file():
        raise UsageError(f"{other}: holds no folder `curate`, and is none: give another run to hold this one against")
    return FinishedStage(CURATE.name, other, read_manifest(other, CURATE.name), sha256_of(other / MANIFEST_NAME))


def _paths(stage: FinishedStage) -> list[str]:
    return [str(path) for path in ledger_paths(stage.folder, stage.manifest)]
