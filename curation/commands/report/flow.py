"""What a report says of the stages: their counts, and whether every sample is accounted for, checked twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from curation.commands.fetch.again import num_asked_again
from curation.commands.pack.packs import is_superseded, packs_of
from curation.commands.report.ledgers import ledger_paths
from curation.dataset.ledger import ledger_batches
from curation.dataset.manifest import MANIFEST_NAME, Manifest, Rejections, read_manifest
from curation.dataset.stages import CURATE, FORGET, PACK, STAGES
from curation.measure.cascade import QUARANTINE, UNREADABLE
from curation.printable import counted
from curation.run.folders import StageFolder
from curation.storage.publish import sha256_of

REQUIRED_STAGE = CURATE.name
"""The stage without which there is nothing to report."""
Counts = tuple[int, int, dict[str, dict[str, int]]]
"""(num_seen, num_kept, rejected_by -> reason -> number), nothing at zero."""


@dataclass(frozen=True)
class FinishedStage:
    """One finished stage as its manifest states it."""

    name: str
    folder: Path
    manifest: Manifest
    manifest_sha256: str

    @property
    def num_rejected(self) -> int:
        """Samples that this stage turned away."""
        return num_rejected(self.manifest.rejected)

    def losses(self, filter_names: Sequence[str]) -> tuple[tuple[str, Mapping[str, int]], ...]:
        """Return (rejected_by, reason -> number): the stage itself, what could not be looked at, the filters."""
        order = {name: rank for rank, name in enumerate((self.name, UNREADABLE, QUARANTINE, *filter_names))}
        return tuple(sorted(self.manifest.rejected.items(), key=lambda loss: (order.get(loss[0], len(order)), loss[0])))


@dataclass(frozen=True)
class Check:
    """One claim about the counts, and whether it holds."""

    claim: str
    holds: bool
    figures: str
    """The two sides of the claim, as numbers."""
    note: str = ""
    """Why it may be broken, where that is known."""


def read_stages(run: Path) -> tuple[tuple[FinishedStage, ...], tuple[str, ...]]:
    """Return the finished stages of a run, and the names of those that are unfinished or superseded.

    Raises:
        UsageError: `curate` is missing, unfinished or another stage's output.
    """
    stages: list[FinishedStage] = []
    unfinished: list[str] = []
    for name in STAGES:
        folder: Path | None = run / name
        if name == PACK.name:
            folder, superseded = _pack_of(run, next(stage.manifest for stage in stages if stage.name == CURATE.name))
            unfinished += superseded
        if folder is None:
            continue
        if name == REQUIRED_STAGE or (folder / MANIFEST_NAME).is_file():
            manifest = read_manifest(folder, name)
            stages.append(FinishedStage(name, folder, manifest, sha256_of(folder / MANIFEST_NAME)))
        elif folder.is_dir():
            unfinished.append(name)
    return tuple(stages), tuple(unfinished)


def _pack_of(run: Path, curated: Manifest) -> tuple[Path | None, list[str]]:
    """Return the folder that was packed from what is curated now, wherever it lies, and names of those that were not.

    Where there is none, it is the place of one in the run, unless a superseded one lies there.
    """
    finished, own = packs_of(run), StageFolder(PACK.name, run / PACK.name, PACK.name)
    superseded = [place for place, manifest in finished.items() if is_superseded(manifest, curated)]
    left = [place.folder for place in (*finished, own) if place not in superseded]
    names = [f"{place.shown} (superseded: made from an earlier state of {CURATE.name})" for place in superseded]
    return (left[0] if left else None), names


def straight(stages: Sequence[FinishedStage]) -> tuple[FinishedStage, ...]:
    """Return the stages through which samples flow, without those that stand aside."""
    return tuple(stage for stage in stages if not STAGES[stage.name].is_aside)


def check_stages(stages: Sequence[FinishedStage]) -> tuple[Check, ...]:
    """Return every conservation check: within each stage, against its ledger, and from each stage to the next.

    Raises:
        ShardError: a ledger that a manifest names cannot be read.
    """
    checks: list[Check] = []
    by_name = {stage.name: stage for stage in stages}
    for stage in stages:
        before = by_name.get(STAGES[stage.name].before or "")
        if before is not None:
            checks.append(_flow_check(before, stage))
        checks += [_balance_check(stage), _ledger_check(stage)]
    return tuple(checks)


def num_rejected(rejected: Rejections) -> int:
    """Return how many samples were rejected, by whomever and for whatever reason."""
    return sum(sum(reasons.values()) for reasons in rejected.values())


def count_ledgers(paths: Sequence[Path]) -> Counts:
    """Count seen, kept and rejected rows of ledgers."""
    num_seen = num_kept = 0
    rejected: dict[str, dict[str, int]] = {}
    for path in paths:
        for batch in ledger_batches(path, ["kept", "rejected_by", "reason"]):
            groups = pa.table(batch).group_by(["kept", "rejected_by", "reason"]).aggregate([([], "count_all")])
            for row in groups.to_pylist():
                count = row["count_all"]
                num_seen += count
                if row["kept"]:
                    num_kept += count
                    continue
                reasons = rejected.setdefault(row["rejected_by"] or "(nobody)", {})
                reasons[row["reason"] or "(none)"] = reasons.get(row["reason"] or "(none)", 0) + count
    return num_seen, num_kept, rejected


def _balance_check(stage: FinishedStage) -> Check:
    manifest = stage.manifest
    accounted = manifest.num_kept + stage.num_rejected
    return Check(
        f"{stage.name}: seen = kept + rejected",
        manifest.num_seen == accounted,
        f"{manifest.num_seen:,} {_sign(manifest.num_seen, accounted)} {manifest.num_kept:,} + {stage.num_rejected:,}",
    )


def _ledger_check(stage: FinishedStage) -> Check:
    manifest = stage.manifest
    num_seen, num_kept, rejected = count_ledgers(ledger_paths(stage.folder, manifest))
    differing = _differences(manifest.rejected, rejected)
    same = (num_seen, num_kept) == (manifest.num_seen, manifest.num_kept)
    note = f"rejections differ at {', '.join(differing)}" if differing else ""
    figures = (
        f"{manifest.num_seen:,} seen and {manifest.num_kept:,} kept; the ledger has {num_seen:,} rows, "
        f"{num_kept:,} of them kept"
    )
    return Check(f"{stage.name}: manifest = ledger, by reason", same and not differing, figures, note)


def _flow_check(before: FinishedStage, stage: FinishedStage) -> Check:
    num_forgotten = num_rejected({FORGET: stage.manifest.rejected.get(FORGET, {})})
    left = before.manifest.num_kept
    right = stage.manifest.num_seen - num_forgotten - num_asked_again(stage.manifest)
    num_failed = len(stage.manifest.failed)
    failed = (
        f"{counted(num_failed, 'shard')} of {stage.name} failed and {'counts' if num_failed == 1 else 'count'} nowhere"
    )
    note = failed if left != right and num_failed else ""
    claim = f"{before.name} kept = {stage.name} seen"
    return Check(claim, left == right, f"{left:,} {_sign(left, right)} {right:,}", note)


def _differences(one: Rejections, other: Rejections) -> list[str]:
    pairs = {(by, reason) for rejected in (one, other) for by, reasons in rejected.items() for reason in reasons}
    return [f"{by}/{reason}" for by, reason in sorted(pairs) if _count(one, by, reason) != _count(other, by, reason)]


def _count(rejected: Mapping[str, Mapping[str, int]], by: str, reason: str) -> int:
    return rejected.get(by, {}).get(reason, 0)


def _sign(left: int, right: int) -> str:
    return "=" if left == right else "≠"
