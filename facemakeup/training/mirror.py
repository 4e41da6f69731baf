"""Checkpoints in a second place, such as an object store, from where a run goes on when its own disk is gone.

The run's log lies there, too: by it another machine knows which validation was the best. A checkpoint is there once its
record is, which comes last; before that the older ones stay. One that is taken away loses its record first.
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
from facemakeup.training.patience import best_awaited
from facemakeup.training.tracking import LOG_NAME

logger = logging.getLogger(__name__)


class Mirror:
    """The checkpoints of one run in another folder, on a disk or in a store; one process writes there."""

    def __init__(self, folder: Path) -> None:
        """Keep the place; nothing is read yet."""
        self.folder = folder

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints that are there, torn ones too, newest first."""
        if not is_local(self.folder):
            filesystem(self.folder)  # what is remembered of it may be old
        found = (checkpoint.step_of(record.parent) for record in self.folder.glob(f"step-*/{RECORD_NAME}"))
        return sorted((step for step in found if step is not None), reverse=True)

    def send(self, own: Path, step: int, keep: int | None = None, best: int | None = None) -> None:
        """Bring the checkpoint of a step there, and that of step `best`; then remove all others but the `keep` newest.

        Later ones go too, as they do in the folder `own`, where it comes from; without `keep` no earlier one does. One
        whose record is torn counts as none: it is sent anew where `own` has it, and does not stay in the place of a
        whole one.

        Raises:
            StorageError: the store refuses; what was there before stays.
        """
        steps, there = self.steps(), self._records()
        for each in sorted({step, step if best is None else best}):
            source, target = (checkpoint.folder_of(folder, each) for folder in (own, self.folder))
            record = _record(source) if each == step else _readable(source)
            if record is not None and there.get(each) != record:
                _copy(source, target, record)
        earlier = [other for other in (steps if keep is None else there) if other < step]
        spared = earlier if keep is None else earlier[: keep - 1]
        for other in set(steps) - {step, best, *spared}:
            self._remove(checkpoint.folder_of(self.folder, other))

    def send_log(self, log: Path) -> None:
        """Bring the run's log there: another machine goes on with it, and knows the best validation by it.

        Raises:
            StorageError: the store refuses.
        """
        if log.is_file():
            publish(self.folder / LOG_NAME, partial(_copied, log))

    def fetch(self, own: Path, config: TrainConfig, log: Path | None = None) -> None:
        """Bring the newest whole checkpoint into the folder `own`, unless that has one that is as new.

        The run's log comes with it, to `log`, and the checkpoint of the best validation where the run waits for a
        better one.

        Raises:
            UsageError: they are of another run than those in `own`, or of other settings; nothing was changed then.
            VerificationError: there are some, and not one arrives as its record says.
        """
        found = self._newest_of(own)
        self._require_same_run(found, config)
        step = self._fetch_newest(own, found)
        if log is None or (step is None and log.is_file()):
            return
        if (self.folder / LOG_NAME).is_file():
            publish(log, partial(_copied, self.folder / LOG_NAME))
        last = step if step is not None else found.step if found is not None else None
        best = best_awaited(log, config.validation, last)
        if best is not None and _readable(checkpoint.folder_of(own, best.step)) is None:
            problem = self._fetch_step(own, best.step)
            if problem is not None:
                logger.warning("the best validation's checkpoint is lost: %s", problem)

    def _fetch_newest(self, own: Path, found: checkpoint.Checkpoint | None) -> int | None:
        """Bring the newest whole checkpoint, and return its step; None where `own` has one that is as new."""
        problems: list[str] = []
        for step in self.steps():
            if found is not None and found.step >= step:
                return None
            problem = self._fetch_step(own, step)
            if problem is None:
                if problems:
                    logger.warning("fell back to %s: %s", checkpoint.folder_of(self.folder, step), "; ".join(problems))
                return step
            problems.append(problem)
        if problems and found is None:
            raise VerificationError(f"{self.folder}: no checkpoint is whole: {'; '.join(problems)}")
        return None

    def _fetch_step(self, own: Path, step: int) -> str | None:
        """Bring the checkpoint of a step; where it does not arrive as its record says, return why."""
        source, target = (checkpoint.folder_of(folder, step) for folder in (self.folder, own))
        try:
            _copy(source, target, _record(source))
            checkpoint.read(target)
        except (VerificationError, FileNotFoundError, KeyError, ValueError, TypeError) as error:
            shutil.rmtree(target, ignore_errors=True)
            return f"{source}: {error}"
        return None

    def _newest_of(self, own: Path) -> checkpoint.Checkpoint | None:
        """Return the newest whole checkpoint in a folder; where none is whole, the mirror's may stand for it."""
        try:
            return checkpoint.newest(own) if own.is_dir() else None
        except VerificationError as error:
            if not self.steps():
                raise
            logger.warning("%s; going on from what lies in %s", error, self.folder)
            return None

    def _require_same_run(self, found: checkpoint.Checkpoint | None, config: TrainConfig) -> None:
        for step, record in self._records().items():
            newest = checkpoint.Checkpoint(checkpoint.folder_of(self.folder, step), record)
            data = record["data_digest"] if found is None else found.record["data_digest"]
            checkpoint.require_resumable(newest, config, data)
            return

    def _records(self) -> dict[int, dict[str, Any]]:
        """Return step -> record of the checkpoints that are there, newest first; torn ones are passed over."""
        read = ((step, _readable(checkpoint.folder_of(self.folder, step))) for step in self.steps())
        return {step: record for step, record in read if record is not None}

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


def _readable(folder: Path) -> dict[str, Any] | None:
    """Return a checkpoint's record; None where there is none, or one that is torn."""
    try:
        record = _record(folder)
        known = {"files", "data_digest", "config", "format_version"} <= record.keys()
    except (FileNotFoundError, ValueError, AttributeError):
        return None
    return record if known else None


def _copy(source: Path, target: Path, record: dict[str, Any]) -> None:
    for name in (*record["files"], RECORD_NAME):
        publish(target / name, partial(_copied, source / name))


def _copied(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, 1 << 20)
