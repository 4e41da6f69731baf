"""Weights & Biases as a tracker: to a folder of the run alone, unless someone asks for more.

What it would send of itself beside what it is handed (the machine's name, the command line, git, output, code) is
turned off. Steps are a number among the others, so that a run that was taken up earlier overwrites its lines.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.errors import UsageError
from facemakeup.train_config import TrainConfig
from filters.base import RgbImage

ID_NAME = "wandb-id"
"""Keeps the name by which a run is known there, so that it goes on as one when it is resumed."""
STEP = "step"


class WeightsAndBiases:
    """A run of Weights & Biases."""

    def __init__(self, config: TrainConfig, out: Path) -> None:
        """Begin or go on with the run that belongs to the folder `out`.

        Raises:
            UsageError: wandb is not installed, or does not let us in.
        """
        try:
            import wandb
        except ImportError as error:
            raise UsageError('tracking.to "wandb" needs wandb: type `pip install "facecaptionhq[wandb]"`') from error
        tracking = config.tracking
        self._sends_pictures, self._picture = tracking.wandb_pictures, wandb.Image
        quiet = wandb.Settings(
            console="off", silent=True, save_code=False, disable_code=True, disable_git=True, disable_job_creation=True,
            x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True,
        )  # fmt: skip
        try:
            self._run: Any = wandb.init(
                project=tracking.wandb_project, name=config.name, id=_id_of(out), resume="allow", dir=str(out),
                mode=tracking.wandb_mode, config=config.model_dump(mode="json"), settings=quiet,
            )  # fmt: skip
        except wandb.Error as error:
            raise UsageError(
                f'tracking: wandb: {error}; `wandb login` first, or take wandb_mode = "offline"'
            ) from error
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers by name."""
        self._run.log({STEP: step, **values})

    def image(self, step: int, name: str, rgb: RgbImage) -> None:
        """Record a picture, if pictures may go there."""
        if self._sends_pictures:
            self._run.log({STEP: step, name: self._picture(rgb)})

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


def _id_of(out: Path) -> str:
    path = out / ID_NAME
    if not path.is_file():
        path.write_text(uuid.uuid4().hex[:16] + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
