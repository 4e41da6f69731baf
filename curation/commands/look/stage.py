"""One call from any folder with pictures in it to a page that says what would be kept, and why."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from curation.commands.curate.stage import curate
from curation.commands.look.choice import Chosen, choose
from curation.commands.report.write import write_report
from curation.dataset.manifest import Manifest
from curation.dataset.stages import CURATE
from curation.recipe.recipe import Recipe
from curation.run.runner import OnOutcome, Spread, silent
from curation.storage.paths import named

OF_ARCHIVES = re.compile(r"(?i)(?:\.tar(?:\.gz)?|\.tgz|\.parquet|\.arrow)$")
RUN_PREFIX = "look-"


@dataclass(frozen=True)
class Looked:
    """What came of it."""

    chosen: Chosen
    run: Path
    manifest: Manifest
    page: Path


def look(
    source: Path,
    run: Path,
    spread: Spread,
    on_outcome: OnOutcome = silent,
    *,
    recipe: Recipe | None = None,
    on_choice: Callable[[Chosen], None] = lambda chosen: None,
    allow_removed: bool = False,
) -> Looked:
    """Curate whatever lies in `source` into `run/curate`, and write `run/report`.

    Without a `recipe` the best is taken whose weights are here, or the one that the run was begun with; `on_choice`
    hears of it before anything is measured. The same call again goes on where the last one ended.

    Raises:
        UsageError: as `curation.commands.curate.stage.curate`.
        WeightsError: there are no weights that anything could look with.
    """
    chosen = choose(run / CURATE.name) if recipe is None else Chosen(recipe)
    on_choice(chosen)
    manifest = curate(source, run / CURATE.name, chosen.recipe, spread, on_outcome, allow_removed=allow_removed)
    return Looked(chosen, run, manifest, write_report(run))


def run_beside(source: Path) -> Path:
    """Return the run that a look at `source` has if nobody says otherwise: a folder here that bears its name."""
    return Path(RUN_PREFIX + (OF_ARCHIVES.sub("", named(source).name) or "pictures"))
