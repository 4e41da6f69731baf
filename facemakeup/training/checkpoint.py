"""The state of a run on disk: whole or not at all, verified when read, and never only one of it.

`step-NNNNNNNN/` holds `trainable.safetensors`, `ema.safetensors`, `optimizer.safetensors`, `rng-{rank}.pt`, and last
`checkpoint.json`, which names them with their sha256s. A folder without it, or whose files are others, does not count.
"""

import errno
import io
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curation.errors import UsageError, VerificationError
from curation.storage.publish import FileRecord, digest, publish, publish_json, record_of
from curation.version import CODE_VERSION
from facemakeup.model.finite import NonFiniteError, require_finite
from facemakeup.train_config import TrainConfig, config_of
from facemakeup.training.rng import rng_state, set_rng_state

log = logging.getLogger(__name__)

FORMAT_VERSION = 2
AS_BEFORE: Mapping[int, Mapping[str, Mapping[str, Any]]] = {
    1: {
        "model": {"clip_crop": "arcface-512"},
        "optim": {"ema_warmup": False},
        "validation": {"choice": "first"},
    }
}
"""Format -> what its configurations do not say, since there was no choice then."""
RECORD_NAME = "checkpoint.json"
TRAINABLE_NAME = "trainable.safetensors"
EMA_NAME = "ema.safetensors"
OPTIMIZER_NAME = "optimizer.safetensors"


@dataclass(frozen=True)
class Snapshot:
    """A run after `step` optimiser steps, as tensors on the CPU."""

    step: int
    """The data cursor too: the next global batch has this number."""
    trainable: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    """Empty where none is kept."""
    optimizer: Mapping[str, Tensor]
    """`{moment}/{parameter}` -> tensor."""
    faults: Mapping[str, int]
    """Samples that could not be used so far, by reason."""
    num_seen: int
    """Samples that were drawn so far, over all ranks."""
    data_digest: str
    """The tar index's digest: the cursor means something for this data alone."""
    num_skipped: int = 0
    """Steps so far that were left out since their gradient was not finite."""
    frozen_digest: str = ""
    """Of what stood frozen beside it (`facemakeup.training.frozen`); empty where an earlier release did not say."""

    def require_finite(self, where: Path) -> None:
        """Refuse a state that holds a number which is not finite.

        Raises:
            NonFiniteError: names a tensor.
        """
        for group in ("trainable", "ema", "optimizer"):
            require_finite(getattr(self, group), f"{where}: {group}")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint on disk."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps that were done."""
        return int(self.record["step"])

    @property
    def config(self) -> TrainConfig:
        """The configuration that it was trained with."""
        values = dict(self.record["config"])
        for table, known in AS_BEFORE.get(self.record["format_version"], {}).items():
            values[table] = {**known, **values[table]}
        return config_of(values, str(self.folder / RECORD_NAME))

    def weights(self, ema: bool = True) -> dict[str, Tensor]:
        """Return the trainables by name: their average, where one is kept and asked for, else their last values."""
        return self._tensors(EMA_NAME if ema and EMA_NAME in self.record["files"] else TRAINABLE_NAME)

    def snapshot(self) -> Snapshot:
        """Return all that a run goes on from."""
        record = self.record
        return Snapshot(
            step=self.step,
            trainable=self._tensors(TRAINABLE_NAME),
            ema=self._tensors(EMA_NAME) if EMA_NAME in record["files"] else {},
            optimizer=self._tensors(OPTIMIZER_NAME),
            faults=record["faults"],
            num_seen=int(record["num_seen"]),
            data_digest=record["data_digest"],
            num_skipped=int(record.get("num_skipped", 0)),
            frozen_digest=record.get("frozen_digest", ""),
        )

    def restore_rng(self, rank: int) -> None:
        """Put back this rank's global generators; with more ranks than before, a new one keeps its own."""
        path = self.folder / _rng_name(rank)
        if path.name in self.record["files"]:
            set_rng_state(torch.load(path, weights_only=True))

    def _tensors(self, name: str) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        return load_file(self.folder / name)


def save_rng(folder: Path, step: int, rank: int) -> None:
    """Write this rank's global generators; every rank does so before `save`."""
    content = io.BytesIO()  # torch would not say that a disk is full
    torch.save(rng_state(), content)
    publish(folder_of(folder, step) / _rng_name(rank), lambda temp: temp.write_bytes(content.getvalue()))


def save(
    folder: Path, snapshot: Snapshot, config: TrainConfig, num_ranks: int, keep: int, best: int | None = None
) -> Checkpoint:
    """Write a checkpoint, then remove all but the `keep` newest whole ones and that of step `best`.

    One process does so.

    Later ones go too: they are of a run that was taken up again at an earlier step. Where it fails, those before stay,
    and what was written of it goes.

    Raises:
        NonFiniteError: a number is not finite; nothing was written then.
        DiskFullError, StorageError: the disk refuses.
    """
    target = folder_of(folder, snapshot.step)
    try:
        snapshot.require_finite(target)
        saved = _written(target, snapshot, config, num_ranks)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    whole = [
        other for other in _folders(folder)
        if (other / RECORD_NAME).is_file() and (step_of(other) or 0) <= snapshot.step
    ]  # fmt: skip
    spared = {*whole[:keep], *([] if best is None else [folder_of(folder, best)])}
    for other in set(_folders(folder)) - spared:
        shutil.rmtree(other)
    return saved


def _written(target: Path, snapshot: Snapshot, config: TrainConfig, num_ranks: int) -> Checkpoint:
    groups = {TRAINABLE_NAME: snapshot.trainable, OPTIMIZER_NAME: snapshot.optimizer, EMA_NAME: snapshot.ema}
    files: dict[str, FileRecord] = {}
    for name, tensors in groups.items():
        if tensors:
            files[name] = publish(target / name, partial(save_tensors, tensors))
    for rank in range(num_ranks):
        files[_rng_name(rank)] = record_of(target / _rng_name(rank))
    record = {
        "format_version": FORMAT_VERSION,
        "code_version": CODE_VERSION,
        "step": snapshot.step,
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest,
        "recogniser": config.model.recogniser.model_dump(mode="json"),
        "data_digest": snapshot.data_digest,
        "faults": dict(snapshot.faults),
        "num_seen": snapshot.num_seen,
        "num_skipped": snapshot.num_skipped,
        "frozen_digest": snapshot.frozen_digest,
        "files": {name: asdict(file) for name, file in sorted(files.items())},
    }
    publish_json(target / RECORD_NAME, {**record, "digest": digest(record)})
    shutil.rmtree(target / "_tmp", ignore_errors=True)
    return Checkpoint(target, record)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors; what the library says of a full disk becomes what Python says of it."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        is_full = "StorageFull" in str(error) or "No space left" in str(error)
        raise OSError(errno.ENOSPC if is_full else errno.EIO, str(error)) from error


def read(folder: Path) -> Checkpoint:
    """Return a checkpoint whose every file is as its record says.

    Raises:
        VerificationError: it is not finished, or a file is missing or has other bytes.
    """
    path = folder / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        files = {name: FileRecord(**file) for name, file in record["files"].items()}
        is_intact = record["digest"] == digest({name: value for name, value in record.items() if name != "digest"})
    except FileNotFoundError as error:
        raise VerificationError(f"{folder}: no {RECORD_NAME}: it was never finished") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"{path}: not a record of a checkpoint: {error}") from error
    if not is_intact:
        raise VerificationError(f"{path}: its own digest is another: somebody or something changed it")
    if record.get("format_version") not in {*AS_BEFORE, FORMAT_VERSION}:
        raise VerificationError(
            f"{path}: format {record.get('format_version')}; this code reads up to {FORMAT_VERSION}"
        )
    for name, expected in files.items():
        if not (folder / name).is_file() or record_of(folder / name) != expected:
            raise VerificationError(f"{folder / name}: missing, or not the bytes that {RECORD_NAME} names")
    return Checkpoint(folder, record)


def newest(folder: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint of a run, or None where none was begun; damaged ones are named in the log.

    Raises:
        VerificationError: there are checkpoints, and not one of them is whole.
    """
    problems = []
    for candidate in _folders(folder):
        try:
            checkpoint = read(candidate)
            require_finite(checkpoint.weights(ema=False), str(candidate))
        except (VerificationError, NonFiniteError) as error:
            problems.append(str(error))
            continue
        if problems:
            log.warning("fell back to %s: %s", candidate, "; ".join(problems))
        return checkpoint
    finished = [problem for problem in problems if "never finished" not in problem]
    if finished:
        raise VerificationError(f"{folder}: no checkpoint is whole: {'; '.join(problems)}")
    return None


def require_resumable(checkpoint: Checkpoint, config: TrainConfig, data_digest: str) -> None:
    """Refuse to go on with other settings or other data.

    Raises:
        UsageError: names the first setting that differs, or says that the data is another.
    """
    difference = _first_difference(checkpoint.config.decisive, config.decisive)
    if difference:
        raise UsageError(
            f"{checkpoint.folder}: trained with other settings ({difference}); resume with those, or give another --out"
        )
    if checkpoint.record["data_digest"] != data_digest:
        raise UsageError(
            f"{checkpoint.folder}: trained on other tars, or with another table of people, so its place in the data "
            f"means nothing here; name the same with --data and reference.people, or give another --out"
        )


def _first_difference(old: Any, new: Any, place: str = "") -> str:
    """Return where two settings differ first, empty where they do not."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *old]:
            difference = _first_difference(old.get(key), new.get(key), f"{place}.{key}".lstrip("."))
            if difference:
                return difference
        return ""
    return f"{place} was {old!r}, is {new!r}" if old != new else ""


def folder_of(folder: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return folder / f"step-{step:08d}"


def step_of(folder: Path) -> int | None:
    """Return the step of a checkpoint's folder by its name; None where it is none of ours."""
    step = folder.name.removeprefix("step-")
    return int(step) if step.isascii() and step.isdigit() and folder_of(folder.parent, int(step)) == folder else None


def _folders(folder: Path) -> list[Path]:
    """Return the folders of checkpoints, newest first, finished or not; somebody's copies are none."""
    ours = [(step, found) for found in folder.glob("step-*") if (step := step_of(found)) is not None]
    return [found for _, found in sorted(ours, reverse=True)]


def _rng_name(rank: int) -> str:
    return f"rng-{rank:05d}.pt"
