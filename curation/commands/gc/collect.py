"""Removes what dead runs left behind: temporary files, files that no record names, uploads that never finished.

Nothing goes that is not known to be of our own kind: a temporary file lies where only `curation.storage.publish` puts
them, an orphan has the name and the form of a file that its stage writes. Whatever else lies there is named and left.
"""

import re
import shutil
import time
from collections.abc import Container, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.commands.caption.arrived import REPLIES
from curation.commands.rank.stage import is_selection
from curation.dataset.manifest import MANIFEST_NAME, RECIPE_NAME, STATS_SUFFIX, WORK_NAME
from curation.dataset.stages import LEFT_OUT_NAME, RANK, REWRITTEN, STAGES
from curation.dataset.tar import has_our_form
from curation.dataset.tombstones import FORGOTTEN_FOLDER, JOURNAL_NAME, PREPARED_FOLDER
from curation.images.containers import WALKERS
from curation.run.derived import DERIVED_FOLDER
from curation.run.folders import StageFolder, done_records, names_in, reports_of, stages_of
from curation.run.journal import discard_prepared
from curation.storage.lease import hold, strays
from curation.storage.lock import LEASE_FOLDER, TTL_S
from curation.storage.paths import filesystem, is_local, local_copy
from curation.storage.publish import TEMP_FOLDER, remove, remove_folder
from curation.storage.scratch import abandoned

OF_ANY_SHARD = re.compile(rf"([^/]+?){REWRITTEN}\.(?:tar|parquet)")
"""What `decide` writes for a shard, whatever the shard is called."""


@dataclass(frozen=True)
class Removal:
    """One thing that goes, or would go."""

    file: str
    why: str
    num_bytes: int


@dataclass(frozen=True)
class Collection:
    """What was removed, and what nobody names but is not ours to remove."""

    removed: tuple[Removal, ...]
    left: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Return the size of all that went."""
        return sum(removal.num_bytes for removal in self.removed)


def collect(run: Path, *, dry_run: bool = False) -> Collection:
    """Remove the leavings of dead runs from a run's folders; a dry run writes nothing and holds nothing.

    Raises:
        LeaseError: a run is alive in one of the folders; those before it are done.
        VerificationError: a manifest is not as it was written: who owns what cannot be known then.
    """
    removed: list[Removal] = []
    left: list[str] = []
    places = stages_of(run)
    for place in places:
        with nullcontext() if dry_run else hold(place.folder):
            for removal, target in leavings(place):
                if target is None:
                    left.append(removal.file)
                    continue
                removed.append(removal)
                if not dry_run:
                    target()
            if not dry_run and is_local(place.folder):
                _remove_if_empty(place.folder / TEMP_FOLDER)
    if places[0].folder != run and is_local(run):
        removed += _unused_preparations(run, dry_run)
    return Collection((*removed, *_abandoned(dry_run)), tuple(left))


def leavings(place: StageFolder) -> Iterator[tuple[Removal, Any]]:
    """Yield what is there and nobody needs with how to remove it; None stands where it is not ours to remove."""
    named, names = _named(place.folder), names_in(place.folder)
    shards = {report.shard for report in reports_of(place.folder)[1]}
    stray = {f"{LEASE_FOLDER}/{name}" for name in strays(place.folder)}
    for name, num_bytes in names.items():
        path, shown = place.folder / name, f"{place.shown}/{name}"
        if name.startswith(f"{LEASE_FOLDER}/{TEMP_FOLDER}/") and _age_s(path) > TTL_S:
            yield Removal(shown, "a heartbeat that a dead run was writing", num_bytes), partial(remove, path)
        if name.startswith(f"{DERIVED_FOLDER}/{TEMP_FOLDER}/") and _age_s(path) > TTL_S:
            yield Removal(shown, "a card that a dead run was writing", num_bytes), partial(remove, path)
        if name in named or (name.startswith((f"{LEASE_FOLDER}/", f"{DERIVED_FOLDER}/")) and name not in stray):
            continue
        if name.endswith(".intent") and MANIFEST_NAME not in names:
            continue  # tells the next attempt at an unfinished stage which picture took its worker down
        if name.endswith(REPLIES):
            continue  # was paid for, and the next attempt at its shard takes it; `caption` removes it when it ends
        if name == LEFT_OUT_NAME and MANIFEST_NAME not in names:
            continue  # tells the next attempt at an unfinished pack how its shards were cut
        if name.startswith(f"{TEMP_FOLDER}/"):
            yield Removal(shown, "a temporary file of a dead run", num_bytes), partial(remove, path)
        elif _is_own(place.stage, name, path, shards):
            yield Removal(shown, "named by no manifest and no done record", num_bytes), partial(remove, path)
        elif path.exists():
            yield Removal(shown, "not of our kind", num_bytes), None
    if not is_local(place.folder):
        yield from _uploads(place)


def _named(folder: Path) -> set[str]:
    """Return every file that a record names; of a record that cannot be read, every file that might be its shard's."""
    manifest, reports = reports_of(folder)
    done, names = list(done_records(folder)), names_in(folder)
    named = {MANIFEST_NAME, RECIPE_NAME, WORK_NAME} | (manifest.file_names if manifest is not None else set())
    for report in (*reports, *done):
        named |= {*report.files, f"{report.shard}{STATS_SUFFIX}"}
    for record in (name for name in names if name.endswith(STATS_SUFFIX) and name not in named):
        named |= {name for name in names if name.startswith(f"{record.removesuffix(STATS_SUFFIX)}.")}
    return named


def _age_s(path: Path) -> float:
    """Return how old a file is, seconds; 0 for one that has gone meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_own(stage: str, name: str, path: Path, shards: Container[str]) -> bool:
    """Whether a file has the name and the form of one that this stage writes; `shards` are those that it knows.

    One that has gone meanwhile is nobody's.
    """
    rewritten = OF_ANY_SHARD.fullmatch(name)
    if not STAGES[stage].may_write(name, WALKERS) and (rewritten is None or rewritten[1] not in shards):
        return False
    with suppress(FileNotFoundError), local_copy(path) as copy:
        return has_our_form(copy) if name.endswith(".tar") else _is_own_table(stage, copy)
    return False


def _is_own_table(stage: str, path: Path) -> bool:
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return False
    if stage == RANK.name and is_selection(schema):
        return True
    said = schema.metadata or {}
    return b"schema_version" in said and said.get(b"stage") == stage.encode()


def _uploads(place: StageFolder) -> Iterator[tuple[Removal, Any]]:
    """Yield multipart uploads below the folder that began more than a lease's life ago and were never completed.

    Ages are taken between two times of the store's own clock.
    """
    files, root = filesystem(place.folder)
    if not hasattr(files, "call_s3"):
        return
    bucket, _, prefix = root.partition("/")
    leases = files.ls(f"{root}/{LEASE_FOLDER}", detail=True) if files.exists(f"{root}/{LEASE_FOLDER}") else []
    times = [lease["LastModified"] for lease in leases if isinstance(lease.get("LastModified"), datetime)]
    for upload in _open_uploads(files, bucket, f"{prefix}/") if times else ():
        key, age_s = upload["Key"], (max(times) - upload["Initiated"]).total_seconds()
        if age_s > TTL_S:
            name = key.removeprefix(f"{prefix}/")

            def abort(key: str = key, upload_id: str = upload["UploadId"]) -> None:
                files.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload_id)

            yield Removal(f"{place.shown}/{name}", "an upload that was never completed", 0), abort


def _open_uploads(files: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield every upload that is not complete, a page at a time."""
    more: dict[str, str] = {}
    while True:
        page = files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **more)
        yield from page.get("Uploads", ())
        if not page.get("IsTruncated"):
            return
        more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _unused_preparations(run: Path, dry_run: bool) -> list[Removal]:
    """Remove what a `forget` prepared that died before it changed anything; one that began is left to go on.

    Raises:
        LeaseError: it is alive, and works on a folder that lies here and was made from another run.
    """
    folder = run / FORGOTTEN_FOLDER
    if not folder.is_dir() or (folder / JOURNAL_NAME).exists():
        return []
    places = (f"{PREPARED_FOLDER}/", f"{TEMP_FOLDER}/")
    prepared = {name: size for name, size in names_in(folder).items() if name.startswith(places)}
    if prepared and not dry_run:
        with hold(folder):
            discard_prepared(run)
    return [Removal(f"{FORGOTTEN_FOLDER}/{name}", "left by a dead `forget`", size) for name, size in prepared.items()]


def _abandoned(dry_run: bool) -> list[Removal]:
    """Remove what killed processes of this user left in the temporary folder: Ray's folders, copies, spills."""
    removals = []
    for folder in abandoned():
        removals.append(Removal(str(folder), "a temporary folder of a killed run", sum(names_in(folder).values())))
        if not dry_run:
            shutil.rmtree(folder, ignore_errors=True)  # lies in no folder that anybody holds
    return removals


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder in which no file is left."""
    if folder.is_dir() and not names_in(folder):
        remove_folder(folder)
