"""What every stage does at its two ends: claim a folder for one piece of work, and write the manifest."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curation.commit import TEMP_FOLDER, FileRecord, publish_json
from curation.errors import UsageError
from curation.manifest import Manifest, Rejections, ShardReport, read_manifest, read_report, total, write_manifest
from curation.recipe import Recipe
from curation.runner import Outcome, ShardFailure

WORK_NAME = "work.json"
"""Says, from the first moment, which piece of work a folder belongs to."""


def claim(target: Path, stage: str, work_digest: str) -> None:
    """Make `target` this work's own folder, so that two pieces of work never mix and nothing foreign is overwritten.

    Raises:
        UsageError: it belongs to other work, or holds files that no stage wrote.
    """
    work = {"stage": stage, "work_digest": work_digest}
    path = target / WORK_NAME
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != work:
            raise UsageError(
                f"{target}: holds the output of other work ({found.get('stage')} {str(found.get('work_digest'))[:12]}, "
                f"not {stage} {work_digest[:12]}); give another folder, or remove this one"
            )
        return
    if target.exists() and any(path.name != TEMP_FOLDER for path in target.iterdir()):
        raise UsageError(f"{target}: not empty, and not the output of {stage}; give a new folder")
    publish_json(path, work)


def finished(source: Path, stage: str) -> Manifest:
    """Read the manifest of a stage that this one builds on.

    Raises:
        UsageError: the stage has not finished, or some of its shards failed: nothing may be left out in silence.
    """
    manifest = read_manifest(source, stage)
    if manifest.failed:
        first, error = next(iter(manifest.failed.items()))
        raise UsageError(
            f"{source}: {len(manifest.failed)} shards failed in {stage} (first: {first}: {error.splitlines()[-1]}); "
            f"run {stage} again, or take these shards out of its source first"
        )
    return manifest


def finish(
    target: Path,
    stage: str,
    recipe: Recipe,
    work_digest: str,
    outcomes: Iterable[Outcome],
    *,
    weights: Mapping[str, str] | None = None,
    files: Mapping[str, FileRecord] | None = None,
    extra: Mapping[str, Any] | None = None,
    rejected_before: Rejections | None = None,
) -> Manifest:
    """Write the stage's manifest from its outcomes, in order of shard name; failed shards are named in it.

    `rejected_before` counts samples that were rejected before any shard began.
    """
    outcomes = list(outcomes)
    reports = sorted((o for o in outcomes if isinstance(o, ShardReport)), key=lambda report: report.shard)
    failed = {o.shard: o.error for o in outcomes if isinstance(o, ShardFailure)}
    num_seen, num_kept, rejected = total(reports, rejected_before or {})
    manifest = Manifest(
        stage=stage,
        recipe_name=recipe.name,
        recipe_digest=recipe.digest,
        work_digest=work_digest,
        num_seen=num_seen,
        num_kept=num_kept,
        rejected=rejected,
        shards=tuple(reports),
        failed=dict(sorted(failed.items())),
        files=files or {},
        weights=weights or {},
        extra=extra or {},
    )
    _remove_others(target, {report.shard for report in reports})
    write_manifest(target, manifest, recipe.resolved)
    shutil.rmtree(target / TEMP_FOLDER, ignore_errors=True)
    return manifest


def _remove_others(target: Path, shards: set[str]) -> None:
    """Remove committed shards whose source is there no more."""
    for path in target.glob("*_stats.json"):
        report = read_report(path)
        if report.shard not in shards:
            for name in (*report.files, path.name):
                (target / name).unlink(missing_ok=True)
