"""The Inception network that FID is defined by, and the classifier of CelebA's attributes, on torchvision's blocks.

The published weights for FID (`pt_inception-2015-12-05-6726825d.pth`) were converted from TensorFlow, whose pooling
leaves out the border, and whose last block takes a maximum where torchvision's takes a mean: other blocks would load
the same weights and give other distances.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor, nn
from torchvision.models import inception, resnet50

from curation.errors import UsageError
from facemakeup.evaluation.attributes import NUM_ATTRIBUTES
from facemakeup.evaluation.preprocess import centre_square, squash
from facemakeup.faces.align import Floats
from facemakeup.model.pretrained import settle
from filters.base import RgbImage, WeightsFile
from filters.loading import torch_device, torch_state_dict

SIDE, SQUASHED_SIDE = 299, 256
NUM_CLASSES = 1008
ATTRIBUTE_SIDE = 256


class FidInception:
    """2,048 features of a picture."""

    def __init__(self, weights: WeightsFile, device: str = "cpu") -> None:
        """Load it; raises UsageError where the file is of another network."""
        self.facts = {"file": Path(weights.path).name, "sha256": weights.sha256}
        self._device = torch_device(device)
        self._network = settle(_with_weights(fid_inception(), weights), self._device)

    def picture(self, rgb: RgbImage) -> dict[str, Floats]:
        """Return `std`, resized at once with bicubic antialiasing (clean-fid), and `compat`, squashed to 256 first."""
        return {"std": self._features(_bicubic(rgb)), "compat": self._features(_squashed(rgb))}

    @torch.no_grad()
    def _features(self, pixels_CHW: Tensor) -> Floats:
        row: Floats = self._network((pixels_CHW[None] * 2 - 1).to(self._device))[0].cpu().numpy()
        return row


class AttributeClassifier:
    """Logits of CelebA's 40 attributes, in the alphabetical order of their names."""

    def __init__(self, weights: WeightsFile, device: str = "cpu") -> None:
        """Load it; raises UsageError where the file is of another network."""
        self.facts = {"file": Path(weights.path).name, "sha256": weights.sha256}
        self._device = torch_device(device)
        self._network = settle(_with_weights(resnet50(num_classes=NUM_ATTRIBUTES), weights), self._device)

    @torch.no_grad()
    def logits(self, rgb: RgbImage) -> Floats:
        """Return 40 logits of the middle square of a picture."""
        square = squash(centre_square(rgb), ATTRIBUTE_SIDE, Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(square.astype(np.float32).transpose(2, 0, 1)) / 127.5 - 1
        row: Floats = self._network(pixels[None].to(self._device))[0].cpu().numpy()
        return row


def fid_inception() -> nn.Module:
    """Return the network without weights; its tensors are named as in the published file."""
    network: Any = inception.Inception3(NUM_CLASSES, aux_logits=False, transform_input=False, init_weights=False)
    for name, block in network.named_children():
        if isinstance(block, inception.InceptionA | inception.InceptionC | inception.InceptionE):
            _pool_as_tensorflow(block, takes_maximum=name == "Mixed_7c")
    network.forward = _features_of(network)
    made: nn.Module = network
    return made


def _features_of(network: Any) -> Any:
    blocks = [block for name, block in network.named_children() if name not in ("dropout", "fc", "AuxLogits")]

    def forward(pixels_BCHW: Tensor) -> Tensor:
        for block in blocks:
            pixels_BCHW = block(pixels_BCHW)
        return pixels_BCHW.flatten(1)

    return forward


def _pool_as_tensorflow(block: Any, takes_maximum: bool) -> None:
    """Replace the pooled branch of a block; torchvision puts it last, so its own outcome is cut off."""
    forward, num_channels = block.forward, block.branch_pool.conv.out_channels

    def pooled(inner_BCHW: Tensor) -> Tensor:
        if takes_maximum:
            return F.max_pool2d(inner_BCHW, 3, 1, 1)
        return F.avg_pool2d(inner_BCHW, 3, 1, 1, count_include_pad=False)

    def fixed(inner_BCHW: Tensor) -> Tensor:
        others = forward(inner_BCHW)[:, :-num_channels]
        return torch.cat([others, block.branch_pool(pooled(inner_BCHW))], dim=1)

    block.forward = fixed


def _with_weights(network: nn.Module, weights: WeightsFile) -> nn.Module:
    tensors = torch_state_dict(weights.path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UsageError(f"{weights.path}: weights of another network: {error}") from error
    return network


def _bicubic(rgb: RgbImage) -> Tensor:
    """Return float32 (3, 299, 299) in 0..1; every channel is resized in float, so that nothing is rounded."""
    planes = [
        Image.fromarray(rgb[..., c].astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for c in range(3)
    ]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]).clip(0, 255) / 255)


def _squashed(rgb: RgbImage) -> Tensor:
    small = squash(rgb, SQUASHED_SIDE, Image.Resampling.BILINEAR).astype(np.float32).transpose(2, 0, 1) / 255
    size = (SIDE, SIDE)
    return F.interpolate(torch.from_numpy(small)[None], size=size, mode="bilinear", align_corners=False)[0]
