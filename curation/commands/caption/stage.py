"""The stage `caption`: every picture that `curate` kept is shown to a model, and what it says is stored beside.

The tars are not touched, and nothing in them is replaced: replies lie in `caption/` beside the curated folder, a ledger
per shard. Which caption is trained on, `pack` chooses by the recipe.
"""

from pathlib import Path

from curation.commands.caption.arrived import files_of
from curation.commands.caption.endpoint import require_address
from curation.commands.caption.local_model import require_transformers
from curation.commands.caption.shard import CaptionJob, caption_shard, caption_work, captioned
from curation.dataset.manifest import MADE_FROM, STATS_SUFFIX, Manifest
from curation.dataset.stages import CAPTION, CURATE
from curation.errors import UsageError
from curation.recipe.captioning import CaptioningSettings
from curation.recipe.recipe import Recipe
from curation.run.derived import register
from curation.run.recipes_apart import require_curated_by
from curation.run.runner import OnOutcome, Spread, run_all, silent
from curation.run.target import Facts, claimed, finish, finished, work_of
from curation.storage.paths import named
from curation.storage.publish import remove


def caption(
    source: Path, recipe: Recipe, spread: Spread, on_outcome: OnOutcome = silent, *, endpoint: str | None = None
) -> Manifest:
    """Ask about every picture of a curated folder, and write the replies into the folder `caption` beside it.

    `endpoint` is the server's base address, where the recipe asks one.

    Raises:
        UsageError: the recipe has no table `[caption]`, `source` is no finished `curate` folder of it, `endpoint` is no
            address, or `caption` holds the replies to another question.
        LeaseError: another run holds that folder.
    """
    source = named(source)
    settings, curated, target = settings_of(recipe), finished(source, CURATE), captions_of_folder(source)
    require_curated_by(source, curated, recipe, "caption")
    if settings.via == "transformers":
        require_transformers()
    at = require_address(endpoint) if settings.via == "endpoint" else None
    work_digest = caption_work(source.name, settings)
    _require_same_question(target, work_digest)
    with claimed(target, CAPTION, work_digest, recipe) as lease:
        register(source, target, CAPTION.name, curated.state)
        jobs = [CaptionJob(report.shard, source, report, target, recipe, at, lease) for report in curated.shards]
        outcomes = run_all(jobs, caption_shard, spread, on_outcome, captioned)
        facts = Facts(extra={MADE_FROM: curated.state})
        manifest = finish(target, CAPTION, recipe, work_digest, outcomes, facts, lease)
        for path in () if manifest.failed else files_of(target):
            remove(path)  # of attempts that ended between a done record and this
        return manifest


def captions_of_folder(source: Path) -> Path:
    """Return where the replies about a curated folder lie."""
    return named(source).parent / CAPTION.name


def settings_of(recipe: Recipe) -> CaptioningSettings:
    """Return the table `[caption]` of a recipe.

    Raises:
        UsageError: it has none.
    """
    if recipe.file.caption is None:
        raise UsageError(
            f"{recipe.path}: no table [caption]: nobody is asked for captions; give one with model, revision and prompt"
        )
    return recipe.file.caption


def _require_same_question(target: Path, work_digest: str) -> None:
    claim = work_of(target) if target.is_dir() else None
    is_other = claim is not None and claim["work_digest"] != work_digest
    if is_other and any(target.glob(f"*{STATS_SUFFIX}")):
        raise UsageError(
            f"{target}: holds the replies to another question (another model, revision, prompt, token limit, "
            f"temperature, seed or size, or of another curated folder); move that folder out of the run first"
        )
