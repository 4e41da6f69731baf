"""Further generations of a finished selection: the next rows below the cut, as parts behind those that are there.

Nothing that was selected changes, so what was fetched and curated of it stays: `fetch` adds the new parts as shards,
and `curate` and `pack` take those up as any that came. Parts of a generation are numbered from
`NUM_GENERATION_PARTS` times its number on, so that they never bear the number of a shard of `fetch --again`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curation.commands.rank.join import Cut, find_cut
from curation.dataset.manifest import Manifest, ShardReport
from curation.errors import UsageError

if TYPE_CHECKING:
    import duckdb

GROWN = "grown"
"""Key of the manifest's `extra`: how many rows each generation after the first was to admit, oldest first."""
NUM_GENERATION_PARTS = 100_000


@dataclass(frozen=True)
class Generation:
    """Rows that were selected together: those up to one cut and behind another."""

    number: int
    """0 is the selection itself."""
    behind: Cut | None
    """Where the generation before ends."""
    cut: Cut

    @property
    def condition(self) -> str:
        """SQL over candidates that says who belongs to it."""
        return (
            self.cut.condition if self.behind is None else f"({self.cut.condition}) AND NOT ({self.behind.condition})"
        )

    def part_number(self, part: int) -> int:
        """Return the number that its parts bear in names and keys.

        Raises:
            UsageError: it has more parts than numbers are left for.
        """
        if part >= NUM_GENERATION_PARTS:
            raise UsageError(f"a generation has at most {NUM_GENERATION_PARTS:,} parts; give more [rank] rows_per_part")
        return self.number * NUM_GENERATION_PARTS + part


def generations(database: "duckdb.DuckDBPyConnection", top: int | None, grown: Sequence[int]) -> Iterator[Generation]:
    """Yield the selection of the `top` best, then each further generation of which there is a row."""
    behind: Cut | None = None
    for number, num_rows in enumerate((0, *grown)):
        top = None if top is None else top + num_rows
        cut = find_cut(database, top)
        if cut is not None and cut != behind:
            yield Generation(number, behind, cut)
            behind = cut


def grown_before(manifest: Manifest | None) -> tuple[int, ...]:
    """Return how many rows each further generation of a selection was to admit."""
    return () if manifest is None else tuple(manifest.extra.get(GROWN, ()))


def grown_by(manifest: Manifest, num_asked: int) -> str:
    """Return what a selection has come to, for whoever asked for so many rows more."""
    return (
        f"--grow {num_asked}: so many more than were selected before, not a total; asked for in all so far: "
        f"{sum(grown_before(manifest))} more; selected now: {manifest.num_kept}"
    )


def require_grown(manifest: Manifest, done: ShardReport, where: object) -> None:
    """Make sure that a manifest is of the rows that are there.

    Raises:
        UsageError: a growth was interrupted before its manifest came.
    """
    if manifest.shards[0].files != done.files:
        raise UsageError(f"{where}: was interrupted as it grew; type the same command with the same --grow again")


def require_growing(manifest: Manifest | None, top: int | None, where: object) -> None:
    """Make sure that a selection can grow.

    Raises:
        UsageError: it has not ended, or has no cut.
    """
    if manifest is None:
        raise UsageError(f"{where}: --grow adds to a finished selection; rank first, without it")
    if top is None:
        raise UsageError(f"{where}: --grow: the recipe has no [rank] top, so nothing lies below a cut")
