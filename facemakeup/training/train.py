"""`facecaptionhq train`: Face-MakeUp on the tars that `pack` wrote, resumable at any moment."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from curation.errors import UsageError
from curation.storage.lease import hold
from facemakeup.data.caches import plan_of
from facemakeup.data.dataset import TarDataset, open_dataset
from facemakeup.data.prepare import sizes_of
from facemakeup.faces.recognisers import load_recogniser
from facemakeup.model.base import BaseEncoders
from facemakeup.model.encoders import Encoders
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.send import Beside
from facemakeup.train_config import TrainConfig
from facemakeup.training import checkpoint
from facemakeup.training.checkpoint import Checkpoint
from facemakeup.training.loop import CHECKPOINTS, OnStep, Run
from facemakeup.training.mirror import Mirror
from facemakeup.training.monitor import Monitor
from facemakeup.training.patience import VALIDATED, best_awaited
from facemakeup.training.ranks import Ranks
from facemakeup.training.tracking import LOG_NAME, JsonLinesTracker, Several, TensorBoard, Tracker
from facemakeup.training.trainer import Trainer
from facemakeup.training.validate import Judges
from facemakeup.training.wandb_tracker import WeightsAndBiases

WORK = "work"


def train(
    config: TrainConfig,
    patterns: Sequence[str],
    out: Path,
    resume: bool,
    on_step: OnStep,
    checkpoints: Path | None = None,
) -> Checkpoint:
    """Train until `optim.num_steps`, or until validation gets no better, and return the last checkpoint.

    `out` receives `checkpoints/`, `tensorboard/`, `log.jsonl`, `faults.jsonl`, `skipped.jsonl` and `work/` (scans,
    fetched shards). `checkpoints` is another folder, of a disk or a store, where the checkpoints go, too, and from
    where a run goes on that is not in `out`. Under `accelerate launch` every process calls this.

    Example:
        config = load_config(Path("mine.toml"))
        last = train(config, ["packed/*.tar"], Path("runs/mine"), resume=True, on_step=print)

    Raises:
        UsageError: `out` or `checkpoints` holds a run and `resume` is not asked for, or settings or data are not those
            of the run.
        LeaseError: another training works in `out`.
        DataError: too many samples cannot be used, or none of the validation set.
        ReadingError: something else than a sample's own fault came up while it was read.
        NonFiniteError: too many steps in a row had no finite gradient.
        VerificationError: no checkpoint of the run is whole.
        RecogniserError: the recogniser is not the one that the configuration names.
        PeerError: another process of the run failed.
        KeyboardInterrupt: after the state was saved (`facemakeup.training.interruption.Interrupted`).
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision="no")
    ranks = Ranks(accelerator)
    with ExitStack() as held:
        for folder in (each for each in (out, checkpoints) if each is not None):
            ranks.together(partial(_hold, folder, held, ranks))
        mirror = Mirror(checkpoints) if checkpoints is not None else None
        saved = _left_off(config, out, resume, mirror, accelerator, ranks)
        return _train(config, patterns, out, saved, accelerator, ranks, on_step, mirror)


def _hold(folder: Path, held: ExitStack, ranks: Ranks) -> None:
    """Let the first rank hold a folder as long as the run lasts."""
    if ranks.rank == 0:
        held.enter_context(hold(folder))


def _train(
    config: TrainConfig, patterns: Sequence[str], out: Path, saved: Checkpoint | None, accelerator: Any, ranks: Ranks,
    on_step: OnStep, mirror: Mirror | None,
) -> Checkpoint:  # fmt: skip
    """Train in a folder that nobody else works in."""
    from accelerate.utils import set_seed

    set_seed(config.seed)
    encoders, judges, dataset, held_out, model = ranks.together(
        lambda: _loaded(config, patterns, out, saved, accelerator, ranks)
    )
    trainer = Trainer(config, model, encoders, accelerator)
    first = saved.step if saved is not None else 0
    tracker = ranks.together(lambda: _tracker(config, out, first + 1) if ranks.rank == 0 else Several([]))
    monitor = Monitor(config, accelerator, ranks, tracker, out, trainer.objective.end)
    copies = Beside(accelerator.device)
    run = Run(config, out, accelerator, ranks, trainer, monitor, tracker, dataset, held_out, judges, copies, mirror)
    unusable = ranks.together(run.require_held_out)
    if saved is not None:
        _take_up(saved, trainer, monitor, ranks)
    else:
        monitor.take_up({}, 0, 0, first_step=0)
        monitor.known(dataset.index.faults, len(dataset.index))
        monitor.passed_over(unusable)
    with closing(tracker):
        last = run.from_step(first, on_step)
    return checkpoint.read(checkpoint.folder_of(out / CHECKPOINTS, last))


def _loaded(
    config: TrainConfig,
    patterns: Sequence[str],
    out: Path,
    saved: Checkpoint | None,
    accelerator: Any,
    ranks: Ranks,
) -> tuple[Encoders, Judges | None, TarDataset, TarDataset, FaceMakeUp]:
    """Load what each rank loads for itself, and refuse what does not go together."""
    place = accelerator.device
    # accelerate numbers CPUs, nobody else does
    encoders = Encoders.load(config.model, "cpu" if place.type == "cpu" else str(place), _dtype(config, place))
    require_known(config, encoders.base)
    judges = _judges(config)
    dataset, held_out = open_dataset(patterns, config, plan_of(config, encoders), out / WORK)
    dataset = dataset.for_rank(ranks.rank, ranks.world)
    _require_fit(dataset, saved, config)
    return encoders, judges, dataset, held_out, FaceMakeUp.from_config(config.model, dtype=_dtype(config, place))


def _left_off(
    config: TrainConfig, out: Path, resume: bool, mirror: Mirror | None, accelerator: Any, ranks: Ranks
) -> Checkpoint | None:
    """Return the checkpoint that a run goes on from, None where it begins; then it is in both places."""
    own, is_first_here = out / CHECKPOINTS, accelerator.is_local_main_process
    ranks.together(lambda: _fetch(mirror, own, resume, config) if mirror is not None and is_first_here else None)
    saved = ranks.together(lambda: checkpoint.newest(own))
    require_same_step(ranks.gathered(None if saved is None else saved.step), own)
    if saved is not None and not resume:
        raise UsageError(
            f"{out}: holds a run at step {saved.step}; add --resume to go on with it, or give another --out"
        )
    if mirror is not None and saved is not None:
        send = partial(_send, mirror, own, saved.step, config)
        ranks.together(lambda: send() if ranks.rank == 0 else None)
    return saved


def _send(mirror: Mirror, own: Path, step: int, config: TrainConfig) -> None:
    best = best_awaited(own.parent / LOG_NAME, config.validation, step)
    mirror.send(own, step, best=None if best is None else best.step)


def require_same_step(steps: Sequence[int | None], own: Path) -> None:
    """Refuse to go on from different checkpoints; `steps` are those of the newest that each rank sees.

    Raises:
        UsageError: they differ, as on machines that do not see one folder.
    """
    if len(set(steps)) > 1:
        seen = ", ".join(f"process {rank}: {'none' if step is None else step}" for rank, step in enumerate(steps))
        raise UsageError(
            f"{own}: the newest checkpoint there is not the same for all processes ({seen}); "
            f"give a folder that every machine sees, or the same content on each"
        )


def _fetch(mirror: Mirror, own: Path, resume: bool, config: TrainConfig) -> None:
    steps = mirror.steps()
    if steps and not resume:
        raise UsageError(
            f"{mirror.folder}: holds a run at step {steps[0]}; add --resume to go on with it, or give others"
        )
    mirror.fetch(own, config, own.parent / LOG_NAME)


def _dtype(config: TrainConfig, place: torch.device) -> torch.dtype:
    """Return what frozen parts are in."""
    return torch.bfloat16 if config.run.precision == "bf16" and place.type != "cpu" else torch.float32


def require_known(config: TrainConfig, base: BaseEncoders) -> None:
    """Refuse settings that the base would leave out, and pictures that it cannot take.

    Raises:
        UsageError: names the setting.
        ValueError: the base was trained for something that cannot be taught here.
    """
    if config.optim.guidance != 1 and not base.is_told_guidance:
        raise UsageError(f"optim.guidance is {config.optim.guidance:g}; {config.model.base} takes none as a condition")
    base.objective(config.optim)
    step = base.side_step
    for size in sizes_of(config.crop):
        if size.height % step or size.width % step:
            shape = f"{size.width}x{size.height}"
            raise UsageError(f"crop: pictures of {shape}; {config.model.base} takes sides that are multiples of {step}")


def _require_fit(dataset: TarDataset, saved: Checkpoint | None, config: TrainConfig) -> None:
    """Refuse ranks that cannot share a global batch, and a checkpoint of other settings or other data."""
    _ = dataset.accumulation
    if saved is not None:
        checkpoint.require_resumable(saved, config, dataset.digest)


def _take_up(saved: Checkpoint, trainer: Trainer, monitor: Monitor, ranks: Ranks) -> None:
    trainer.restore(ranks.together(saved.snapshot))
    record = saved.record
    monitor.take_up(record["faults"], int(record["num_seen"]), int(record.get("num_skipped", 0)), saved.step + 1)
    ranks.together(lambda: saved.restore_rng(ranks.rank))


def _judges(config: TrainConfig) -> Judges | None:
    """Load what validation needs, and check the recogniser, before any step is done."""
    recogniser = load_recogniser(config.model.recogniser, config.faces.accept_noncommercial)
    if not config.validation.facesim or not config.validation.num_references:
        return None
    from filters import faces

    return Judges(faces.build(config.validation.detector, "cpu"), recogniser)


def _tracker(config: TrainConfig, out: Path, first_step: int) -> Tracker:
    trackers: list[Tracker] = [JsonLinesTracker(out / LOG_NAME, first_step, {VALIDATED: config.validation.digest})]
    if "tensorboard" in config.tracking.to:
        trackers.append(TensorBoard(out / "tensorboard", first_step))
    if "wandb" in config.tracking.to:
        trackers.append(WeightsAndBiases(config, out))
    return Several(trackers)
