"""What became of a stage and its shards, for a terminal and as plain values."""

from pathlib import Path
from typing import Any

from curation.dataset.manifest import Manifest
from curation.printable import indented, joined, printable
from curation.run.runner import Outcome, ShardFailure

VALUES = ("stage", "recipe_name", "recipe_digest", "num_seen", "num_kept", "rejected", "failed")


def tell(manifest: Manifest, target: Path) -> str:
    """Return the equation of a stage's counts, and on a second line its folder."""
    terms = [f"{manifest.stage}: {manifest.num_seen} seen = {manifest.num_kept} kept"]
    for by, reasons in manifest.rejected.items():
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        terms.append(f"{sum(reasons.values())} by {by} ({listed})")
    return joined((" + ".join(terms), str(target)))


def values(manifest: Manifest, target: Path) -> dict[str, Any]:
    """Return the same as plain values, for JSON, with the recipe and every shard that failed."""
    return {"target": str(target), **{name: getattr(manifest, name) for name in VALUES}}


def tell_outcome(stage: str, outcome: Outcome) -> str:
    """Return one line about a shard: its counts, or why it failed; of a bug the traceback, too."""
    if isinstance(outcome, ShardFailure):
        if outcome.is_bug:
            return f"{printable(f'{stage} {outcome.shard}: FAILED:')}\n{indented(outcome.error)}"
        return printable(f"{stage} {outcome.shard}: FAILED: {outcome.error}")
    return printable(f"{stage} {outcome.shard}: {outcome.num_seen} seen, {outcome.num_kept} kept")
