"""What a device server reads of strangers: nothing but what is within its bounds."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.device import messages
from filters.device.messages import MAX_TOGETHER, Opening, SlabCanvas, SlabOutputs

DTYPES = ("float32", "bfloat16")
SLAB = 1 << 20
REQUEST = SlabCanvas(1, 64, 96, 0, 64 * 96 * 3, 1000)


def test_what_is_packed_is_what_is_read() -> None:
    opening = Opening("ppocr-0a.onnx", "bfloat16", (0.25, -1.0))
    assert messages.opening_in(messages.opening(opening, DTYPES), DTYPES) == opening
    requests = [REQUEST, replace(REQUEST, network=0, at=4096)]
    assert messages.requests_in(messages.running(requests), 2, SLAB) == requests
    answers = [SlabOutputs(3, ((1, 64, 96), (5,))), SlabOutputs(0, ())]
    assert messages.answers_in(messages.ran(answers)) == answers
    assert messages.told_in(messages.told(1.5)) == 1.5
    assert messages.pid_in(messages.asking_for(4711)) == 4711


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": 2},
        {"height": 0},
        {"width": messages.MAX_SIDE_PX + 1},
        {"at": SLAB - 64 * 96 * 3 + 1},
        {"at": (1 << 64) - 1},
        {"out_at": SLAB},
        {"out_at": 2},
        {"out_bytes": (1 << 64) - 1},
    ],
)
def test_a_picture_beyond_the_slab_or_of_no_network_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="beyond its bounds"):
        messages.requests_in(messages.running([replace(REQUEST, **wrong)]), 2, SLAB)


def test_more_pictures_than_a_message_has_are_refused() -> None:
    with pytest.raises(ValueError, match="65535 pictures"):
        messages.requests_in(struct.pack("<BH", messages.RUN, 0xFFFF), 2, SLAB)
    with pytest.raises(ValueError, match="65 pictures"):
        messages.requests_in(messages.running([REQUEST] * (MAX_TOGETHER + 1)), 2, SLAB)
    assert len(messages.running([REQUEST] * MAX_TOGETHER)) <= messages.MAX_MESSAGE_BYTES


@given(st.binary(max_size=200))
def test_noise_is_refused_or_within_the_bounds(noise: bytes) -> None:
    for read in (
        lambda: messages.opening_in(noise, DTYPES),
        lambda: messages.requests_in(noise, 2, SLAB),
        lambda: messages.pid_in(noise),
    ):
        try:
            found = read()
        except ValueError:
            continue
        assert not isinstance(found, list) or all(one.at + one.num_bytes <= SLAB for one in found)
