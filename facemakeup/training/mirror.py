"""Checkpoints in a second place, such as an object store, from where a run goes on when its own disk is gone.

A checkpoint is there once its record is, which comes last; before that the older ones stay. One that is taken away
loses its record first.
"""

import json
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from curation.errors import VerificationError
from curation.storage.fence import passing
from curation.storage.paths import filesystem, is_local
from curation.storage.publish import publish
from facemakeup.train_config import TrainConfig
from facemakeup.training import checkpoint
from facemakeup.training.checkpoint import RECORD_NAME

log = logging.getLogger(__name__)


class Mirror:
    """The checkpoints of one run in another folder, on a disk or in a store; one process writes there."""

    def __init__(self, folder: Path) -> None:
        """Keep the place; nothing is read yet."""
        self.folder = folder

    def steps(self) -> list[int]:
        """Return the steps of the whole checkpoints that are there, newest first."""
        if not is_local(self.folder):
            filesystem(self.folder)  # what is remembered of it may be old
        names = {record.parent.name for record in self.folder.glob(f"step-*/{RECORD_NAME}")}
        return sorted((int(name.removeprefix("step-")) for name in names), reverse=True)

    def send(self, own: Path, step: int, keep: int | None = None, best: int | None = None) -> None:
        """Bring the checkpoint of a step there, then remove all but the `keep` newest and that of step `best`.

        Later ones go too, as they do in the folder `own`, where it comes from; without `keep` no earlier one does.

        Raises:
            StorageError: the store refuses; what was there before stays.
        """
        source, target = (checkpoint.folder_of(folder, step) for folder in (own, self.folder))
        there = self.steps()
        if step not in there or _record(source) != _record(target):
            for name in (*_record(source)["files"], RECORD_NAME):
                publish(target / name, partial(_copied, source / name))
        earlier = [other for other in there if other < step]
        spared = earlier if keep is None else earlier[: keep - 1]
        for other in set(there) - {step, *spared, best}:
            self._remove(checkpoint.folder_of(self.folder, other))

    def fetch(self, own: Path, config: TrainConfig) -> None:
        """Bring the newest whole checkpoint into the folder `own`, unless that has one that is as new.

        Raises:
            UsageError: they are of another run than those in `own`, or of other settings; nothing was changed then.
            VerificationError: there are some, and not one arrives as its record says.
        """
        found = self._newest_of(own)
        self._require_same_run(found, config)
        problems = []
        for step in self.steps():
            if found is not None and found.step >= step:
                return
            source, target = (checkpoint.folder_of(folder, step) for folder in (self.folder, own))
            try:
                for name in (*_record(source)["files"], RECORD_NAME):
                    publish(target / name, partial(_copied, source / name))
                checkpoint.read(target)
            except (VerificationError, FileNotFoundError, KeyError, ValueError) as error:
                problems.append(f"{source}: {error}")
                shutil.rmtree(target, ignore_errors=True)
                continue
            if problems:
                log.warning("fell back to %s: %s", source, "; ".join(problems))
            return
        if problems and found is None:
            raise VerificationError(f"{self.folder}: no checkpoint is whole: {'; '.join(problems)}")

    def _newest_of(self, own: Path) -> checkpoint.Checkpoint | None:
        """Return the newest whole checkpoint in a folder; where none is whole, the mirror's may stand for it."""
        try:
            return checkpoint.newest(own) if own.is_dir() else None
        except VerificationError as error:
            if not self.steps():
                raise
            log.warning("%s; going on from what lies in %s", error, self.folder)
            return None

    def _require_same_run(self, found: checkpoint.Checkpoint | None, config: TrainConfig) -> None:
        for step in self.steps():
            there = checkpoint.folder_of(self.folder, step)
            try:
                newest = checkpoint.Checkpoint(there, _record(there))
                data = newest.record["data_digest"]
            except (OSError, ValueError, KeyError):
                continue  # damaged: passed over by name when it is fetched
            checkpoint.require_resumable(newest, config, data if found is None else found.record["data_digest"])
            return

    def _remove(self, folder: Path) -> None:
        with passing(folder):
            (folder / RECORD_NAME).unlink()
            if is_local(folder):
                shutil.rmtree(folder)
            else:
                files, name = filesystem(folder)
                files.rm(name, recursive=True)


def _record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    return record


def _copied(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, 1 << 20)
