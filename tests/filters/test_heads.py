"""The file of heads: what is written is read, whatever does not belong together is refused by name."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.base import WeightsFile
from filters.heads import Classifier, Head, Heads, Training, read_heads
from filters.weights import WeightsError

NETWORK = WeightsFile("network", "network.pth", "ab" * 32)
numbers = st.floats(-1e3, 1e3)
TRAINING = Training(manifest_sha256="12" * 32, num_pictures={"single": 3})


@st.composite
def any_heads(draw: st.DrawFn, num_directions: int = 0) -> Heads:
    def row(elements: st.SearchStrategy[float]) -> tuple[float, ...]:
        return tuple(draw(st.lists(elements, min_size=num_features, max_size=num_features)))

    num_features = draw(st.integers(1, 6))
    return Heads(
        network_sha256=NETWORK.sha256,
        training=TRAINING,
        mean=row(numbers),
        deviation=row(st.floats(1e-3, 1e3)),
        clip=draw(st.floats(0.5, 10)),
        roots_from=draw(st.none() | st.integers(0, 6)) if num_directions else None,
        heads={
            name: Head(
                weights=row(numbers),
                bias=draw(numbers),
                directions=tuple(row(numbers) for _ in range(num_directions)),
                curvatures=tuple(draw(numbers) for _ in range(num_directions)),
            )
            for name in ("drawn", "nonhuman")
        },
    )


def saved(folder: Path, text: str) -> WeightsFile:
    file = folder / "heads.json"
    file.write_text(text, encoding="utf-8")
    return WeightsFile("heads", str(file), hashlib.sha256(text.encode()).hexdigest())


@given(any_heads() | any_heads(2))
def test_what_is_written_is_read_and_written_again_the_same(heads: Heads) -> None:
    again = Heads.model_validate_json(heads.written())
    assert again == heads and again.written() == heads.written()


@given(any_heads(), st.floats(-1e6, 1e6))
def test_no_feature_counts_for_more_than_the_clip_lets_it(heads: Heads, wild: float) -> None:
    features = np.array(heads.mean, dtype=np.float32)
    features[0] = wild
    logits = Classifier(heads).logits(features)
    for name, head in heads.heads.items():
        reach = heads.clip * abs(head.weights[0]) + 1e-3 * sum(map(abs, head.weights)) / min(heads.deviation)
        assert abs(logits[name] - head.bias) <= reach + 1e-6


def changed(change: Callable[[dict[str, Any]], Any]) -> str:
    head = {"weights": [1.0, 2.0], "bias": 0.5}
    values = {
        "format": "facecaptionhq-heads-1",
        "network_sha256": NETWORK.sha256,
        "training": TRAINING.model_dump(),
        "mean": [0.0, 1.0],
        "deviation": [1.0, 2.0],
        "clip": 6.0,
        "heads": {"drawn": head, "nonhuman": dict(head)},
    }
    change(values)
    return json.dumps(values)


def test_sound_heads_give_the_logit_that_a_hand_can_compute(tmp_path: Path) -> None:
    heads = read_heads(saved(tmp_path, changed(lambda values: None)), NETWORK, ("drawn",), 2)
    assert Classifier(heads).logits(np.array([3, 5], np.float32))["drawn"] == 1 * 3 + 2 * 2 + 0.5


def test_squares_along_directions_count_and_roots_stand_for_what_no_layer_leaves_below_0(tmp_path: Path) -> None:
    def squared(values: dict[str, Any]) -> None:
        values.update(roots_from=1)
        values["heads"]["drawn"].update(directions=[[1.0, -1.0], [0.0, 2.0]], curvatures=[0.5, -0.25])

    heads = read_heads(saved(tmp_path, changed(squared)), NETWORK, ("drawn",), 2)
    row = [(3 - 0.0) / 1.0, (9**0.5 - 1.0) / 2.0]
    drawn = 1 * row[0] + 2 * row[1] + 0.5 + 0.5 * (row[0] - row[1]) ** 2 - 0.25 * (2 * row[1]) ** 2
    logits = Classifier(heads).logits(np.array([3, 9], np.float32))
    assert logits == {"drawn": drawn, "nonhuman": 1 * row[0] + 2 * row[1] + 0.5}
    below = Classifier(heads).logits(np.array([3, -9], np.float32))
    assert below == Classifier(heads).logits(np.array([3, 0], np.float32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda values: values["heads"]["drawn"]["weights"].append(1.0),
            "heads.drawn.weights: 2 numbers are wanted, not 3",
        ),
        (
            lambda values: values["heads"]["drawn"].update(directions=[[1.0]], curvatures=[1.0]),
            "heads.drawn.directions: 2 numbers are wanted, not 1",
        ),
        (
            lambda values: values["heads"]["drawn"].update(directions=[[1.0, 2.0]]),
            "heads.drawn.curvatures: 1 are wanted, one for each direction",
        ),
        (lambda values: values.update(roots_from=-1), "roots_from"),
        (lambda values: values["deviation"].pop(), "deviation: 2 numbers above 0"),
        (lambda values: values.update(deviation=[1.0, 0.0]), "deviation: 2 numbers above 0"),
        (lambda values: values.update(mean=[0.0, "much"]), "mean.1"),
        (lambda values: values.update(clip=0), "clip"),
        (lambda values: values.update(format="facecaptionhq-heads-2"), "format"),
        (lambda values: values.update(extra=1), "extra"),
        (lambda values: values.update(network_sha256="cd" * 32), "taught on a network of sha256 cdcd"),
        (lambda values: values["heads"].pop("nonhuman"), "the heads drawn, nonhuman are wanted; it has 2 and drawn"),
    ],
)
def test_heads_that_do_not_fit_are_refused_and_the_message_names_file_and_fault(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    with pytest.raises(WeightsError) as caught:
        read_heads(saved(tmp_path, changed(change)), NETWORK, ("drawn", "nonhuman"), 2)
    assert said in str(caught.value) and "heads.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "\x80\x04K\x01.", "[]", changed(lambda values: None)[:-9]])
def test_what_is_no_such_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(WeightsError, match=r"heads\.json holds no heads"):
        read_heads(saved(tmp_path, text), NETWORK, ("drawn",), 2)


def test_heads_for_another_number_of_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="1584 features"):
        read_heads(saved(tmp_path, changed(lambda values: None)), NETWORK, ("drawn",), 1584)
