"""Which replies are fit: what a text gives away by itself, and what the evidence contradicts."""

import time
from typing import Any

import pytest

from curation.commands.caption.checks import fault_of, repeats, same_for_many
from curation.recipe.captioning import CaptionChecks

ONE_FACE = {
    "faces_scores": {"num_faces": 1.0},
    "colour_scores": None,
    "colour_screen_scores": {"mean_channel_std": 20.0},
    "drawn_scores": {"drawn_probability": 0.02},
}
UNMEASURED = dict.fromkeys(ONE_FACE)
CHECKS = CaptionChecks()


def fault(
    text: str, row: dict[str, Any] = ONE_FACE, checks: CaptionChecks = CHECKS, finish: str = "stop"
) -> str | None:
    return fault_of({"reply": text, "num_reply_characters": len(text), "finish_reason": finish}, row, checks)


@pytest.mark.parametrize(
    "text",
    [
        "A young woman with long dark hair and a red scarf smiles at the camera in front of a brick wall.",
        "A man in his forties with a grey beard wears a black and white shirt and looks to the left.",
        "Close-up of a boy with freckles; he is holding two balloons and there are many lights in the background.",
        "The portrait shows an elderly man who is wearing glasses and a suit with a tie.",
        "A painter with an apron is standing in front of a large painting of the sea.",
        "A woman with no make-up looks straight into the camera, and the light falls on the left of her face.",
        "A smiling nurse in blue scrubs, one of the staff, with a stethoscope around her neck in a corridor.",
        "A couple of strands of hair fall over the face of a girl who is lying in the grass.",
        "It's a photo of a man. He isn't smiling. He's in a field with his dog in the evening.",
    ],
)
def test_a_plain_description_is_fit(text: str) -> None:
    assert fault(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I cannot assist with that request about the person in this picture.", "refusal"),
        ("As an AI language model, I don't have the ability to see the picture.", "refusal"),
        ("Please provide the image that you would like me to describe for you.", "refusal"),
        ("<|im_start|>assistant A man in a hat is standing on the beach.", "markup"),
        ("**Description**: a man in a hat is standing on the beach with a dog.", "markup"),
        ("- A man in a hat\n- the beach and the sea\n- a dog on the sand", "markup"),
        ("Une femme aux cheveux longs est assise sur un banc dans le parc avec son chien.", "language"),
        ("一位长发女子坐在公园的长椅上,旁边 是 她的 狗 和 朋友", "language"),
        ("qwzx vbnm plok jhgf dsaq wert yuio", "language"),
        ("A man.", "too_short"),
        (" ".join(f"the man number {i} is in the house and" for i in range(60)), "too_long"),
        ("A man in a hat. A man in a hat. A man in a hat.", "repeats"),
        ("the man is in the house and the man is in the house and the man is in the house", "repeats"),
        ("A man in a shop with the sign to call 0049 30 123456 78 or to write to a.b@example.org.", "personal_data"),
        ("Two people are standing in front of the house with their dog.", "contradicts_faces"),
        ("A group of smiling young women is sitting on the stairs of the school.", "contradicts_faces"),
        ("A man and a woman are walking on the beach in the evening.", "contradicts_faces"),
        ("An empty room with a table; there are no people in the picture.", "contradicts_faces"),
        ("A black and white photo of a man with a beard and a hat.", "contradicts_colour"),
        ("This image is a digital illustration of a woman with long hair and a crown.", "contradicts_drawn"),
    ],
)  # fmt: skip
def test_what_is_not_fit_says_why(text: str, reason: str) -> None:
    assert fault(text) == reason
    if reason.startswith("contradicts"):
        assert fault(text, UNMEASURED) is None, "what nobody measured contradicts nothing"
        assert fault(text, checks=CaptionChecks(refuse_contradictions=False)) is None


def test_a_reply_that_was_cut_or_that_many_pictures_share_is_not_fit() -> None:
    assert fault("A man in a hat is standing on the beach with", finish="length") == "cut_off"
    assert same_for_many(["a", "a", "b", None, None, None], 1) == {"a"}
    assert same_for_many(["a", "a"], 2) == frozenset()
    assert not repeats("A man in a hat in front of the house. The man is in a good mood.", 2)


@pytest.mark.parametrize("letter", ["a", "1-", "\n", "\n "])
def test_a_reply_of_one_thing_again_and_again_takes_no_longer_than_its_letters(letter: str) -> None:
    """Eight times as many letters take some eight times as long, not sixty-four."""

    def cpu_seconds(num: int) -> float:
        start = time.process_time()
        fault(letter * num)
        return time.process_time() - start

    short, long = (min(cpu_seconds(num // len(letter)) for _ in range(3)) for num in (1024, 8192))
    assert long < 24 * short
