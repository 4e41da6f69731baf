"""Which stages lie in a folder: a run holds one folder per stage; a stage's own folder stands for itself."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from curation.dataset.manifest import (
    MANIFEST_NAME,
    STATS_SUFFIX,
    WORK_NAME,
    Manifest,
    ShardReport,
    read_manifest,
    read_report,
)
from curation.dataset.stages import STAGES
from curation.errors import UsageError, VerificationError
from curation.run.derived import derived_of
from curation.storage.lock import LEASE_FOLDER
from curation.storage.paths import filesystem, is_local, named, resolved
from curation.storage.publish import TEMP_FOLDER, read_sealed
from curation.storage.walk import entries_below


@dataclass(frozen=True)
class StageFolder:
    """One stage's folder, and how messages name it."""

    stage: str
    folder: Path
    shown: str


def stages_of(run: Path) -> tuple[StageFolder, ...]:
    """Return the stage folders of a run in the order in which samples flow, or `run` itself where it is one.

    Raises:
        UsageError: there is none.
    """
    if (run / MANIFEST_NAME).exists() or (run / WORK_NAME).exists():
        return (StageFolder(_stage_name(run), run, named(run).name),)
    places = tuple(StageFolder(name, run / name, name) for name in STAGES if _is_begun(run / name))
    if not places:
        raise UsageError(f"{run}: holds none of the folders {', '.join(STAGES)}, and is no stage's own folder")
    return places


def _is_begun(folder: Path) -> bool:
    """Whether a folder holds more than the lease of a command that was refused."""
    if any((folder / name).exists() for name in (WORK_NAME, MANIFEST_NAME)):
        return True
    return folder.is_dir() and any(path.name not in (LEASE_FOLDER, TEMP_FOLDER) for path in folder.iterdir())


def derived_stages(run: Path) -> tuple[StageFolder, ...]:
    """Return the stage folders that were made from those of a run and lie elsewhere, if they can be reached."""
    here = resolved(run)
    return tuple(
        StageFolder(derived.stage, derived.folder, shown_from(here, derived.folder))
        for derived in derived_of(run)
        if derived.stage in STAGES and derived.is_there
    )


def shown_from(run: Path, folder: Path) -> str:
    """Return how messages name a folder: by its way from the run where it lies in it, else by its address."""
    try:
        return folder.relative_to(run).as_posix()
    except ValueError:
        return str(folder)


def _stage_name(folder: Path) -> str:
    """Return which stage wrote a folder: what its records say, or, where they are broken, what it is called."""
    for name in (WORK_NAME, MANIFEST_NAME):
        try:
            stage = read_sealed(folder / name)["stage"]
        except (OSError, VerificationError, KeyError):
            continue
        if stage in STAGES:
            return str(stage)
    if (name := named(folder).name) in STAGES:
        return name
    raise UsageError(f"{folder}: its {WORK_NAME} and {MANIFEST_NAME} do not say which stage wrote it")


def names_in(folder: Path) -> dict[str, int]:
    """Return the size in bytes of every file below a folder, by its path within it, in order.

    A file that goes while the folder is walked, as a heartbeat's temporary one does, is none.
    """
    if is_local(folder):
        found = ((entry, _found(entry)) for entry in entries_below(folder))
        sizes = {
            Path(entry.path).relative_to(folder).as_posix(): facts.st_size
            for entry, facts in found
            if facts is not None and stat.S_ISREG(facts.st_mode)
        }
    else:
        files, root = filesystem(folder)
        prefix = root.rstrip("/") + "/"
        sizes = {name.removeprefix(prefix): int(facts["size"]) for name, facts in files.find(root, detail=True).items()}
    return dict(sorted(sizes.items()))


def _found(entry: "os.DirEntry[str]") -> os.stat_result | None:
    """Return what lies there; None where it has gone since, or is a link that leads nowhere or round and round."""
    try:
        return entry.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def done_records(folder: Path) -> Iterator[ShardReport]:
    """Yield every done record of a folder that can be read, in order of shard."""
    for name in names_in(folder):
        if name.endswith(STATS_SUFFIX) and "/" not in name:
            try:
                yield read_report(folder / name)
            except (VerificationError, TypeError, KeyError):
                continue


def reports_of(folder: Path) -> tuple[Manifest | None, tuple[ShardReport, ...]]:
    """Return a stage's manifest and the shards that it names; without one, the shards that are done so far.

    Raises:
        VerificationError: the manifest is not as it was written.
    """
    if (folder / MANIFEST_NAME).exists():
        manifest = read_manifest(folder)
        return manifest, tuple(replace(report, run={}) for report in manifest.shards)
    return None, tuple(replace(report, run={}) for report in done_records(folder))
