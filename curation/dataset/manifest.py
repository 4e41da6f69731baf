"""What a stage says of its output: a done record per shard, and one manifest that names them all.

A reader trusts only what `manifest.json` names; it is written last, so a folder without it is not finished.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from curation.errors import UsageError, VerificationError
from curation.storage.publish import FileRecord, digest, is_there, publish_json, publish_sealed, read_sealed
from curation.version import CODE_VERSION

MANIFEST_NAME = "manifest.json"
RECIPE_NAME = "recipe.json"
WORK_NAME = "work.json"
"""Says, from the first moment, which piece of work a folder belongs to: whatever folder holds it is a stage's."""
STATS_SUFFIX = "_stats.json"
"""What the name of a done record adds to its shard's."""
SCHEMA_VERSION = 2
READABLE = (1, 2)
"""Versions of manifests that this code reads; the first had no `output_since`."""
HISTORY = "history"
"""Key of a manifest's `extra`: the recipes that judged the folder before, oldest first."""
BEFORE_FORGET = "before_forget"
"""Key of `extra`: the states that `forget` took something out of, oldest first; what was made from one of them and was
not reached then is this state's once it forgets, too."""
SUPERSEDED = "superseded"
"""The states that the folder has had before, oldest first: what was made from one of them is out of date."""
MADE_FROM = "made_from"
"""The state of the stage before that the folder was made from."""

Rejections = Mapping[str, Mapping[str, int]]
"""rejected_by -> reason -> number of samples."""


@dataclass(frozen=True)
class ShardReport:
    """What happened to one shard: its counts obey `num_seen == num_kept + sum of rejections`."""

    shard: str
    work_id: str
    num_seen: int
    num_kept: int
    rejected: Rejections
    files: Mapping[str, FileRecord]
    run: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Times, host, attempts: what may differ between equal runs."""

    def file(self, folder: Path, suffix: str) -> Path:
        """Return where the shard's file with this suffix (`.tar`, `.parquet`) lies.

        Raises:
            VerificationError: the shard has none, or several.
        """
        names = [name for name in self.files if name.endswith(suffix)]
        if len(names) != 1:
            raise VerificationError(f"{folder}: shard {self.shard} should have one *{suffix}, has {names}")
        return folder / names[0]

    def __post_init__(self) -> None:
        num_rejected = sum(sum(reasons.values()) for reasons in self.rejected.values())
        if self.num_seen != self.num_kept + num_rejected:
            raise VerificationError(
                f"shard {self.shard}: {self.num_seen} seen, but {self.num_kept} kept + {num_rejected} rejected"
            )


@dataclass(frozen=True)
class Manifest:
    """A finished stage: its shards, files, counts, recipe, code version and weights."""

    stage: str
    recipe_name: str
    recipe_digest: str
    work_digest: str
    """Digest of what this stage's output depends on; a folder that holds other work is refused."""
    num_seen: int
    num_kept: int
    rejected: Rejections
    shards: Sequence[ShardReport]
    failed: Mapping[str, str] = field(default_factory=dict)
    """Shards that could not be finished, with the error; they count nowhere else."""
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    """Files that belong to no single shard, such as an index."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Name -> sha256 of every weights file that was used."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What only this stage knows, such as the cut value of a ranking."""
    code_version: str = CODE_VERSION
    """The version of the program that wrote it."""
    output_since: str = ""
    """The release since which that program's stage gives this output for these inputs (`curation.dataset.stages`)."""
    schema_version: int = SCHEMA_VERSION
    recipe: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The recipe with every default filled in; filled in when the manifest is written."""

    @property
    def output_version(self) -> str:
        """What its identities are made with; manifests of the first release say so by their program's version."""
        return self.output_since or self.code_version

    @property
    def state(self) -> str:
        """What names the content of all its shards: a digest of their names and their files' sha256s."""
        return digest([[report.shard, *sorted(r.sha256 for r in report.files.values())] for report in self.shards])

    @property
    def file_names(self) -> set[str]:
        """Every file that the manifest names, beside the manifest and the recipe."""
        return {*self.files, *(name for report in self.shards for name in report.files)}


def total(reports: Sequence[ShardReport], before: Rejections) -> tuple[int, int, dict[str, dict[str, int]]]:
    """Return (num_seen, num_kept, rejected) summed over shards and what was rejected before any shard began."""
    rejected: dict[str, dict[str, int]] = {}
    for part in (before, *(report.rejected for report in reports)):
        for by, reasons in part.items():
            counts = rejected.setdefault(by, {})
            for reason, count in reasons.items():
                counts[reason] = counts.get(reason, 0) + count
    num_before = sum(sum(reasons.values()) for reasons in before.values())
    num_seen = num_before + sum(report.num_seen for report in reports)
    return num_seen, sum(report.num_kept for report in reports), rejected


def stats_path(folder: Path, shard: str) -> Path:
    """Return where the done record of a shard lies."""
    return folder / f"{shard}{STATS_SUFFIX}"


def write_report(folder: Path, report: ShardReport) -> None:
    """Commit a shard: its files must already be durable, this record claims them."""
    publish_sealed(stats_path(folder, report.shard), asdict(report))


def committed(folder: Path, shard: str, work_id: str) -> ShardReport | None:
    """Return the done record of `shard` if it is of this very work and its files are whole, else None.

    A record of other work (another input, recipe, weights or code version) does not count: the shard is redone.
    """
    path = stats_path(folder, shard)
    if not path.exists():
        return None
    try:
        report = read_report(path)
    except VerificationError:
        return None
    if report.work_id != work_id:
        return None
    return report if all(is_there(folder / name, record) for name, record in report.files.items()) else None


def read_report(path: Path) -> ShardReport:
    """Read a done record.

    Raises:
        VerificationError: it is not as it was written, or has other fields than this code knows.
    """
    values = read_sealed(path)
    with _in_form(path):
        return _report(values)


def write_manifest(folder: Path, manifest: Manifest, recipe: Mapping[str, Any]) -> None:
    """Commit a stage: the one pointer that readers trust, then the recipe in it once more for people to read."""
    publish_sealed(folder / MANIFEST_NAME, manifest_values(replace(manifest, recipe=recipe)))
    publish_json(folder / RECIPE_NAME, recipe)


def manifest_values(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest as plain values of this version, without what may differ between equal runs."""
    values = {**asdict(manifest), "schema_version": SCHEMA_VERSION}
    for shard in values["shards"]:
        del shard["run"]
    return values


def read_manifest(folder: Path, stage: str | None = None) -> Manifest:
    """Read the manifest of a finished stage.

    Raises:
        UsageError: there is none in `folder`, or it belongs to another stage.
        VerificationError: it is not as it was written, or has other fields than this code knows.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder; give the one that {stage or 'a stage'} wrote")
        raise UsageError(f"{path}: no manifest; the stage that writes {folder} has not finished: run it again")
    values = read_sealed(path)
    if values.get("schema_version") not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise UsageError(f"{path}: schema_version {values.get('schema_version')!r}; this code reads {known}")
    with _in_form(path):
        shards = tuple(_report(shard) for shard in values.pop("shards"))
        files = {name: FileRecord(**record) for name, record in values.pop("files").items()}
        manifest = Manifest(shards=shards, files=files, **values)
    if stage is not None and manifest.stage != stage:
        raise UsageError(f"{path}: written by {manifest.stage!r}; expected the output of {stage!r}")
    return manifest


@contextmanager
def _in_form(path: Path) -> Iterator[None]:
    """Name the file whose fields are not those of the values made of them."""
    try:
        yield
    except (AttributeError, KeyError, TypeError) as error:
        raise VerificationError(
            f"{path}: sealed, but not with the fields that this version ({CODE_VERSION}) knows: {error}; "
            f"read it with the version that wrote it"
        ) from error


def _report(values: Mapping[str, Any]) -> ShardReport:
    files = {name: FileRecord(**record) for name, record in values["files"].items()}
    return ShardReport(**{**values, "files": files})
