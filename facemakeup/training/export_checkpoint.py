"""From a checkpoint to an adapter: the one step between training and everybody who draws."""

from pathlib import Path

from facemakeup.inference.export import export
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.training.checkpoint import EMA_NAME, read


def export_checkpoint(checkpoint: Path, folder: Path, average: bool = True) -> None:
    """Export what a training run wrote: the average of its weights where it kept one and `average` asks for it.

    Example:
        export_checkpoint(Path("runs/mine/checkpoints/step-00530000"), Path("adapter"))

    Raises:
        UsageError: the target folder is there, or the base model's configuration is not.
        VerificationError: the checkpoint is not whole.
        NonFiniteError: one of its weights is not finite.
    """
    saved = read(checkpoint)
    config, weights = saved.config, saved.weights(average)
    model = FaceMakeUp.skeleton(config.model)  # what is frozen is not exported
    model.load_trainable(weights)
    crop = {"crop_mode": config.crop.mode, "crop_factor": config.crop.factor, "crop_size": config.crop.size}
    known = {key: saved.record[key] for key in ("step", "config_digest", "data_digest", "num_seen")}
    is_average = average and bool(saved.record["files"].get(EMA_NAME))
    export(model, folder, {"name": config.name, **known, "weights_are_an_average": is_average, **crop})
