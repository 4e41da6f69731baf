"""How a GPU computes: precision of its products, layout of its weights, choice of its kernels. A CPU is left alone."""

import torch

from facemakeup.model.base import BaseEncoders
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.train_config import RunSettings


def set_up(run: RunSettings, device: torch.device) -> None:
    """Set what torch keeps for the whole process."""
    if device.type != "cuda":
        return
    precision = "tf32" if run.tf32 else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]  # torch's stubs lack it
    torch.backends.cudnn.benchmark = run.cudnn_benchmark


def lay_out(run: RunSettings, model: FaceMakeUp, encoders: BaseEncoders, device: torch.device) -> None:
    """Put weights where the device computes fastest with them; their values stay."""
    if device.type == "cuda" and run.precision == "bf16":
        model.freeze_in(torch.bfloat16)
    if device.type == "cuda" and run.channels_last:
        model.keep_channels_last(frozen_only=run.fsdp)
        encoders.vae.to(memory_format=torch.channels_last)
