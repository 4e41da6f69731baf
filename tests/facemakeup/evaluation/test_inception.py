"""The network of FID and the classifier of attributes on random weights of full size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import inception_v3, resnet50

from curation.errors import UsageError
from facemakeup.evaluation.inception import AttributeClassifier, FidInception, fid_inception
from filters.base import WeightsFile
from filters.weights import sha256_of

RGB = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)


def saved(path: Path, network: torch.nn.Module) -> WeightsFile:
    torch.save(network.state_dict(), path)
    return WeightsFile("random", str(path), sha256_of(path))


def test_the_network_of_fid_has_the_tensors_of_the_published_file() -> None:
    with torch.device("meta"):
        ours = fid_inception().state_dict()
        theirs = inception_v3(num_classes=1008, aux_logits=False, init_weights=False).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: v.shape for name, v in theirs.items()}
    assert sum(value.numel() for name, value in ours.items() if name.startswith("fc.")) == 1008 * 2049


@pytest.mark.slow
def test_pooling_leaves_out_the_border_and_the_last_block_takes_a_maximum() -> None:
    network: Any = fid_inception().eval()
    inner_BCHW = torch.randn(1, 192, 5, 5, generator=torch.Generator().manual_seed(0))
    block = network.Mixed_5b
    counts = torch.nn.functional.conv2d(torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3), padding=1)
    sums = torch.nn.functional.conv2d(inner_BCHW, torch.ones(192, 1, 3, 3), padding=1, groups=192)
    with torch.no_grad():
        assert torch.allclose(block(inner_BCHW)[:, -32:], block.branch_pool(sums / counts), atol=1e-5)
        last_BCHW = torch.randn(1, 2048, 4, 4, generator=torch.Generator().manual_seed(1))
        patches = torch.nn.functional.pad(last_BCHW, (1, 1, 1, 1), value=float("-inf")).unfold(2, 3, 1).unfold(3, 3, 1)
        expected = network.Mixed_7c.branch_pool(patches.amax(dim=(4, 5)))
        assert torch.allclose(network.Mixed_7c(last_BCHW)[:, -192:], expected, atol=1e-5)


@pytest.mark.slow
def test_fid_features_are_2048_and_squashing_first_gives_others(tmp_path: Path) -> None:
    features = FidInception(saved(tmp_path / "fid.pth", fid_inception())).picture(RGB)
    assert features["std"].shape == features["compat"].shape == (2048,)
    assert not np.allclose(features["std"], features["compat"])


@pytest.mark.slow
def test_the_classifier_takes_weights_of_its_form_and_no_others(tmp_path: Path) -> None:
    assert AttributeClassifier(saved(tmp_path / "a.pth", resnet50(num_classes=40))).logits(RGB).shape == (40,)
    with pytest.raises(UsageError, match="weights of another network"):
        AttributeClassifier(saved(tmp_path / "b.pth", resnet50(num_classes=1000)))
