"""What every stage does at its two ends: claim a folder for one piece of work, and write the manifest."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from curation.dataset.manifest import (
    MANIFEST_NAME,
    RECIPE_NAME,
    STATS_SUFFIX,
    SUPERSEDED,
    WORK_NAME,
    Manifest,
    Rejections,
    ShardReport,
    read_manifest,
    read_report,
    stats_path,
    total,
    write_manifest,
    write_report,
)
from curation.dataset.stages import REWRITTEN, Stage
from curation.dataset.tombstones import consult
from curation.errors import SafetyError, UsageError, VerificationError, WeightsError
from curation.printable import counted
from curation.recipe.recipe import Recipe
from curation.run.recipes_apart import how_apart
from curation.run.runner import Outcome, ShardFailure
from curation.storage.lease import Lease, hold
from curation.storage.lock import LEASE_FOLDER
from curation.storage.paths import is_local
from curation.storage.publish import TEMP_FOLDER, FileRecord, publish_sealed, read_sealed, remove, remove_folder

OWN_FOLDERS = frozenset({TEMP_FOLDER, LEASE_FOLDER})


OF_A_SHARD = re.compile(rf"(.+?)(?:{REWRITTEN})?\.(?:tar|parquet)")
"""What a stage, or `decide`, writes for a shard."""


@dataclass(frozen=True)
class Facts:
    """What a stage knows of its output beside its shards."""

    weights: Mapping[str, str] = field(default_factory=dict)
    """Name -> sha256 of every weights file that was used."""
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    """Files that belong to no single shard."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What only this stage knows, such as the cut value of a ranking."""
    rejected_before: Rejections = field(default_factory=dict)
    """Samples that were rejected before any shard began."""


NO_FACTS = Facts()


@contextmanager
def claimed(target: Path, stage: Stage, work_digest: str, recipe: Recipe | None = None) -> Iterator[Lease]:
    """Hold `target` for this piece of work alone until the block ends; what is refused in it claims nothing.

    `recipe` is that of the work, for whoever is told that the folder was made by another.

    Raises:
        UsageError: it belongs to other work, or holds files that no stage wrote.
        LeaseError: another run holds it.
    """
    _require_own(target, stage, work_digest, recipe)
    with hold(target) as lease:
        claim(target, stage, work_digest, recipe)
        try:
            yield lease
        except (UsageError, SafetyError, WeightsError):
            _let_go(target)
            raise


def _let_go(target: Path) -> None:
    """Take a claim back that nothing has come of: a command that was refused is no stage that has begun."""
    if {path.name for path in target.iterdir()} - OWN_FOLDERS == {WORK_NAME}:
        remove(target / WORK_NAME)


def claim(target: Path, stage: Stage, work_digest: str, recipe: Recipe | None = None) -> None:
    """Make `target` this work's own folder, so that two pieces of work never mix and nothing foreign is overwritten.

    What other work began and never committed anything of is taken over.

    Raises:
        UsageError: it belongs to other work, or holds files that no stage wrote.
    """
    if not _require_own(target, stage, work_digest, recipe):
        for name in (MANIFEST_NAME, RECIPE_NAME, *stage.tables):  # of work of which every shard failed
            remove(target / name)
        publish_sealed(target / WORK_NAME, {"stage": stage.name, "work_digest": work_digest})


def work_of(target: Path) -> dict[str, str] | None:
    """Return which stage and work digest a folder belongs to, or None where no stage has claimed it.

    The manifest counts before `work.json`, which follows it when a folder is re-decided.
    """
    if (target / MANIFEST_NAME).is_file():
        manifest = read_manifest(target)
        return {"stage": manifest.stage, "work_digest": manifest.work_digest}
    return read_sealed(target / WORK_NAME) if (target / WORK_NAME).is_file() else None


def _require_own(target: Path, stage: Stage, work_digest: str, recipe: Recipe | None = None) -> bool:
    """Return whether the folder is this work's own; refuse one that is not ours to claim, or is being changed."""
    consult(target)
    names = {path.name for path in target.iterdir()} if target.exists() else set()
    # Listed first, since whoever works here has written work.json before anything else: what is in the list and not
    # followed by it now is nobody's output.
    claim = work_of(target)
    if claim is not None:
        is_own = claim == {"stage": stage.name, "work_digest": work_digest}
        if not is_own and _has_committed(target):
            can_decide = claim["stage"] == stage.name and stage.can_be_redecided
            how = ", or judge this one anew with `decide`" if can_decide else ""
            why = (how_apart(target, stage.name, recipe) if claim["stage"] == stage.name else "") or (
                "another recipe, input or version"
            )
            raise UsageError(
                f"{target}: holds the output of other work ({claim['stage']} {claim['work_digest'][:12]}, "
                f"not {stage.name} {work_digest[:12]}: {why}); give another folder{how}"
            )
        return is_own
    if names - OWN_FOLDERS:
        raise UsageError(f"{target}: not empty, and not the output of {stage.name}; give a new folder")
    return False


def _has_committed(target: Path) -> bool:
    """Whether anything in a claimed folder counts: a done shard, or a manifest that names more than failures."""
    if any(target.glob(f"*{STATS_SUFFIX}")):
        return True
    if not (target / MANIFEST_NAME).is_file():
        return False
    manifest = read_manifest(target)
    return bool(manifest.shards) or not manifest.failed


def finished(source: Path, stage: Stage) -> Manifest:
    """Read the manifest of a stage that this one builds on.

    Raises:
        UsageError: the stage has not finished, or some of its shards failed: nothing may be left out in silence.
    """
    manifest = read_manifest(source, stage.name)
    if manifest.failed:
        first, error = next(iter(manifest.failed.items()))
        reason = error.splitlines()[-1]
        raise UsageError(
            f"{source}: {counted(len(manifest.failed), 'shard')} failed in {stage.name} (first: {first}: {reason}); "
            f"run {stage.name} again, or take these shards out of its source first"
        )
    return manifest


def finish(
    target: Path,
    stage: Stage,
    recipe: Recipe,
    work_digest: str,
    outcomes: Iterable[Outcome],
    facts: Facts = NO_FACTS,
    lease: Lease | None = None,
) -> Manifest:
    """Write the stage's manifest from its outcomes, in order of shard name; failed shards are named in it.

    Readers see the last manifest and its files until this one has replaced it in one step.

    Raises:
        LeaseError: another run took the folder over.
    """
    outcomes = list(outcomes)
    before = read_manifest(target) if (target / MANIFEST_NAME).is_file() else None
    reports = sorted((o for o in outcomes if isinstance(o, ShardReport)), key=lambda report: report.shard)
    failed = {o.shard: o.error for o in outcomes if isinstance(o, ShardFailure)}
    num_seen, num_kept, rejected = total(reports, facts.rejected_before)
    manifest = Manifest(
        stage=stage.name,
        recipe_name=recipe.name,
        recipe_digest=recipe.digest,
        work_digest=work_digest,
        num_seen=num_seen,
        num_kept=num_kept,
        rejected=rejected,
        shards=tuple(reports),
        failed=dict(sorted(failed.items())),
        files=facts.files,
        weights=facts.weights,
        extra=facts.extra,
        output_since=stage.output_since,
    )
    manifest = replace(manifest, extra={**manifest.extra, **_superseded(before, manifest)})
    _replace_manifest(target, manifest, recipe, lease, _replaced(target, before, failed))
    return manifest


def _replaced(target: Path, before: Manifest | None, failed: Collection[str]) -> set[str]:
    """Return the files of the last manifest that may go once another is there.

    Not those of a shard that failed because its record is torn: whoever mends the record finds them whole.
    """
    if before is None:
        return set()
    torn = {shard for shard in failed if stats_path(target, shard).exists() and _recorded(target, shard) is None}
    return before.file_names - {name for report in before.shards if report.shard in torn for name in report.files}


def settle(target: Path, manifest: Manifest, recipe: Recipe, lease: Lease) -> None:
    """Make a folder again what its manifest says: other work may have been begun in it, or a run have been killed.

    Done records of other work give way to those of the manifest, then comes all that `finish` does behind that.

    Raises:
        LeaseError: another run took the folder over.
    """
    for report in manifest.shards:
        found = _recorded(target, report.shard)
        if found != report:
            lease.require()
            write_report(target, replace(report, run={} if found is None else found.run))
    shards = {report.shard for report in manifest.shards}
    forms = ((path.name, OF_A_SHARD.fullmatch(path.name)) for path in target.iterdir())
    written = {name for name, form in forms if form is not None and form[1] in shards}
    claimed = work_of(target)
    is_settled = claimed is not None and claimed["work_digest"] == manifest.work_digest
    if not is_settled or written - manifest.file_names:
        _replace_manifest(target, manifest, recipe, lease, written)


def _superseded(before: Manifest | None, manifest: Manifest) -> dict[str, list[str]]:
    """Return the states that the folder has had before, where there are such: what was made of them is out of date."""
    if before is None:
        return {}
    states: list[str] = list(before.extra.get(SUPERSEDED, ()))
    if before.state != manifest.state and not before.failed:  # with failures, nothing is built on it
        states.append(before.state)
    return {SUPERSEDED: states} if states else {}


def _replace_manifest(target: Path, manifest: Manifest, recipe: Recipe, lease: Lease | None, before: set[str]) -> None:
    """Let a manifest take the place of the last one, and remove what only that one named: the files `before`."""
    if lease is not None:
        lease.require()
    write_manifest(target, manifest, recipe.resolved)
    publish_sealed(target / WORK_NAME, {"stage": manifest.stage, "work_digest": manifest.work_digest})
    _remove_others(target, manifest, before)


def _remove_others(target: Path, manifest: Manifest, before: set[str]) -> None:
    """Remove what the last manifest named and this one does not, shards whose source is gone, and temporary files.

    What a shard that failed this time left earlier stays: the next run may find it whole. So does the log of what was
    in work when its worker was lost.
    """
    named = manifest.file_names
    spared = {name for shard in manifest.failed for name in _files_of(target, shard)}
    for name in before - named - spared:
        remove(target / name)
    shards = {report.shard for report in manifest.shards} | set(manifest.failed)
    for path in target.glob(f"*{STATS_SUFFIX}"):
        shard = path.name.removesuffix(STATS_SUFFIX)
        if shard not in shards:
            for name in (*(_files_of(target, shard) - named), path.name):
                remove(target / name)
    if is_local(target) and not manifest.failed:
        remove_folder(target / TEMP_FOLDER)


def _files_of(target: Path, shard: str) -> set[str]:
    """Return the files that a shard's done record names; none where it has none that can be read."""
    report = _recorded(target, shard)
    return set() if report is None else set(report.files)


def _recorded(target: Path, shard: str) -> ShardReport | None:
    """Return a shard's done record; None where it has none that can be read."""
    path = stats_path(target, shard)
    try:
        return read_report(path) if path.exists() else None
    except VerificationError:
        return None
