"""The new captions that lie beside a curated folder, for whoever packs it or holds a pack against it.

Where a picture has one is known even after the picture was forgotten: its row says so and nothing else, so that a pack
keeps the place that the picture had.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curation.commands.caption.checks import told
from curation.commands.caption.rows import HAS_CAPTION, PROVENANCE
from curation.commands.caption.shard import caption_work
from curation.commands.caption.stage import captions_of_folder, settings_of
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import MADE_FROM, MANIFEST_NAME, Manifest, ShardReport, read_manifest
from curation.dataset.stages import CAPTION, CURATE, FORGET
from curation.errors import UsageError
from curation.recipe.recipe import Recipe
from curation.run.target import finished
from curation.storage.publish import digest

NUM_DIGEST_DIGITS = 16
PROVENANCE_NAMES = tuple(field.name for field in PROVENANCE)
Places = Callable[[str], Mapping[int, str]]
"""Of a curated shard: row -> what names the new caption that the picture has; "" where the picture is forgotten."""


@dataclass(frozen=True)
class NewCaption:
    """A fit reply, and where it comes from."""

    text: str
    provenance: Mapping[str, str]
    """By the names of `PROVENANCE`: model, revision, sha256 of the prompt, time."""


def require_captions(source: Path, curated: Manifest, recipe: Recipe) -> Manifest | None:
    """Return the manifest of the replies about a curated folder, as it is now; None where the recipe asks for none.

    Raises:
        UsageError: they are not there, not whole, to another question, or about another state of the folder.
    """
    if recipe.file.caption is None:
        return None
    folder = captions_of_folder(source)
    if not (folder / MANIFEST_NAME).is_file():
        raise UsageError(f"{folder}: the recipe has a table [caption], and there are no replies yet: run caption first")
    manifest = finished(folder, CAPTION)
    if manifest.work_digest != caption_work(source.name, settings_of(recipe)):
        raise UsageError(f"{folder}: holds the replies to another question than this recipe's [caption] asks")
    if manifest.extra.get(MADE_FROM) != curated.state or _checks(manifest) != _checks_of(recipe):
        raise UsageError(
            f"{folder}: of an earlier state of {source}, "
            f"or of other checks; run caption again, which asks only what is new"
        )
    return manifest


def nobody(shard: str) -> Mapping[int, str]:
    """Know of no picture that has a new caption."""
    return {}


def places_of(source: Path, recipe: Recipe) -> Places:
    """Return which pictures of a curated folder have a new caption; none where the recipe asks for none."""
    return places_in(captions_of_folder(source), source) if reports_for(source, recipe) else nobody


def places_in(folder: Path, source: Path) -> Places:
    """Return the same of whatever replies lie in a finished folder, whoever asked; a shard is read when it is asked."""
    curated = {report.shard: replace(report, run={}) for report in read_manifest(source, CURATE.name).shards}
    captions = reports_of(folder)

    def places(shard: str) -> dict[int, str]:
        if shard not in captions or shard not in curated:
            return {}
        columns = ["uid", "reply", HAS_CAPTION.name, *PROVENANCE_NAMES]
        told = read_ledger(captions[shard].file(folder, ".parquet"), columns).to_pylist()
        digests = {row["uid"]: _digest(row) for row in told if row[HAS_CAPTION.name]}
        rows = read_ledger(curated[shard].file(source, ".parquet"), ["uid", "kept", "rejected_by", "format"])
        return {
            number: digests[row["uid"]]
            for number, row in enumerate(rows.to_pylist())
            if row["uid"] in digests and _was_kept(row)
        }

    return places


def reports_for(source: Path, recipe: Recipe) -> dict[str, ShardReport]:
    """Return the shards of the replies about a curated folder; none where the recipe asks for none."""
    folder = captions_of_folder(source)
    if recipe.file.caption is None or not (folder / MANIFEST_NAME).is_file():
        return {}
    return reports_of(folder)


def reports_of(folder: Path) -> dict[str, ShardReport]:
    """Return the shards of a finished folder of replies by name."""
    return {report.shard: replace(report, run={}) for report in read_manifest(folder, CAPTION.name).shards}


def captions_of_shard(folder: Path, report: ShardReport) -> dict[str, NewCaption]:
    """Return the fit replies about one curated shard, by uid."""
    rows = read_ledger(report.file(folder, ".parquet"), ["uid", "kept", "reply", *PROVENANCE_NAMES]).to_pylist()
    return {
        row["uid"]: NewCaption(told(row["reply"]), {name: row[name] for name in PROVENANCE_NAMES})
        for row in rows
        if row["kept"]
    }


def _was_kept(row: Mapping[str, Any]) -> bool:
    return row["kept"] or (row["rejected_by"] == FORGET and row["format"] is not None)


def _digest(row: Mapping[str, Any]) -> str:
    """Name all that is packed of a reply: its text, and where it comes from."""
    if row["reply"] is None:
        return ""
    return digest([row["reply"], *(row[name] for name in PROVENANCE_NAMES)])[:NUM_DIGEST_DIGITS]


def _checks(manifest: Manifest) -> object:
    return manifest.recipe.get("caption", {}).get("checks")


def _checks_of(recipe: Recipe) -> object:
    return recipe.resolved["caption"]["checks"]
