"""The network behind `drawn`: built operator by operator, so what it computes is held against what it was taught."""

import numpy as np
import pytest

from filters.base import RgbImage
from filters.detectors.efficientnet_lite import NUM_FEATURES, EfficientNetLite
from filters.detectors.efficientnet_lite_export import serialised
from filters.loading import torch_state_dict
from filters.weights import find_weights
from tests.filters.marks import astronaut, with_efficientnet
from tests.pictures import noise

CATS = {281, 282, 285}
"""ImageNet's tabby, tiger cat and Egyptian cat."""
ESPRESSO = 967

pytestmark = with_efficientnet


def features(*images: RgbImage) -> list[np.ndarray]:
    return list(EfficientNetLite(find_weights("efficientnet_lite0"), device="cpu").features(images))


def test_the_exported_network_names_what_imagenet_calls_a_cat_and_a_cup_of_espresso() -> None:
    from skimage import data

    tensors = torch_state_dict(find_weights("efficientnet_lite0").path)
    weight, bias = tensors["_fc.weight"].numpy(), tensors["_fc.bias"].numpy()
    cat, coffee = ((weight @ seen[-1280:] + bias).argmax() for seen in features(data.chelsea(), data.coffee()))
    assert cat in CATS and coffee == ESPRESSO


def test_features_are_means_and_deviations_and_do_not_depend_on_the_other_pictures() -> None:
    images = [astronaut(), noise(3, 224, 224), astronaut()[:100, :300]]
    together = features(*images)
    assert all(one.shape == (NUM_FEATURES,) and np.isfinite(one).all() for one in together)
    assert all((one[40:80] >= 0).all() and (one[192:304] >= 0).all() and (one[304:] <= 6).all() for one in together)
    for image, one in zip(images, together, strict=True):
        assert np.array_equal(features(image)[0], one)


def test_the_same_weights_give_the_same_file_and_another_network_is_refused() -> None:
    tensors = {
        name: tensor.numpy() for name, tensor in torch_state_dict(find_weights("efficientnet_lite0").path).items()
    }
    assert serialised(tensors) == serialised(tensors)
    del tensors["_blocks.7._bn1.running_var"]
    with pytest.raises(KeyError, match=r"_blocks\.7\._bn1"):
        serialised(tensors)
