"""Whatever a child that has met hostile bytes says is either an answer that can be stored, or none."""

import json
from pathlib import Path
from typing import Any

import pytest

from curation.measure.cascade import Measured
from curation.measure.fingerprint import LOOK
from curation.recipe.judge import Verdict
from curation.sandbox.protocol import cpu_seconds, fault, looked, measured, with_own_work
from tests.curation.shards import recipe_from

REFUSALS = (AttributeError, KeyError, TypeError, ValueError)
COLOUR = {"mean_channel_std": 1.0, "chromatic_share": 0.5, "hue_spread_deg": 9.0, "toning_residual": 2.0}
HONEST: dict[str, Any] = {
    "refused": None, "evidence": {"colour": COLOUR}, "width": 2, "height": 3, "format": "png",
    "seconds": {"decode": 0.1},
}  # fmt: skip
LOOKED = HONEST | {"evidence": {LOOK: {"phash": "0" * 16}}}
REFUSED = HONEST | {"refused": ["unreadable", "truncated"], "evidence": {}, "width": None, "height": None}


def said(value: object) -> Any:
    """What arrives of an answer: JSON."""
    return json.loads(json.dumps(value))


def test_honest_answers_are_believed(tmp_path: Path) -> None:
    recipe = recipe_from(tmp_path)
    found = measured(said(HONEST), recipe)
    assert (found.width, found.height, found.format, found.seconds) == (2, 3, "png", {"decode": 0.1})
    assert vars(found.evidence["colour"]) == COLOUR
    assert measured(said(REFUSED), recipe) == Measured(refused=Verdict("unreadable", "truncated"))
    assert looked(said(LOOKED)).evidence[LOOK].phash == "0" * 16
    assert fault({"fault": "crashed", "message": "SIGSEGV"}).reason == "crashed"


@pytest.mark.parametrize("phash", ["", "0" * 15, "0" * 17, "G" * 16, None, 5, ["0" * 16], {"0": 1}])
def test_a_look_that_is_made_up_is_refused(phash: object) -> None:
    with pytest.raises(REFUSALS):
        looked(said(LOOKED | {"evidence": {LOOK: {"phash": phash}}}))


@pytest.mark.parametrize(
    "lie",
    [
        {"width": 1e999}, {"width": True}, {"width": 0}, {"width": None}, {"height": 1 << 31}, {"height": "3"},
        {"format": "exe"}, {"format": None}, {"format": ["png"]}, {"format": "\ud800"},
        {"evidence": {}}, {"evidence": None}, {"evidence": []}, {"evidence": {"colour": 3}},
        {"evidence": {"colour": COLOUR | {"mean_channel_std": 10**400}}},
        {"evidence": {"colour": COLOUR | {"mean_channel_std": True}}},
        {"seconds": {"decode": 10**400}}, {"seconds": {"decode": -1.0}}, {"seconds": {"decode": 1e300}},
        {"seconds": {"decode": None}}, {"seconds": {"\ud800": 1.0}}, {"seconds": [1.0]}, {"seconds": None},
        {"refused": ["unreadable", "because"]}, {"refused": ["colour", "truncated"]}, {"refused": "no"}, {"refused": 1},
        {"refused": ["unreadable", ["truncated"]]},
    ],
)  # fmt: skip
def test_an_answer_that_could_not_be_stored_or_means_nothing_is_refused(tmp_path: Path, lie: dict[str, Any]) -> None:
    with pytest.raises(REFUSALS):
        measured(said(HONEST | lie), recipe_from(tmp_path))


@pytest.mark.parametrize(
    "answer",
    [{"fault": "crashed"}, {"fault": "hacked", "message": ""}, {"fault": "crashed", "message": 5}, {"fault": None}],
)
def test_a_fault_that_there_is_not_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(REFUSALS):
        fault(answer)


@pytest.mark.parametrize("spent", [None, "1", -1.0, 1e300, True, [1.0]])
def test_cpu_time_that_makes_no_sense_is_refused(spent: object) -> None:
    assert cpu_seconds({"cpu_seconds": 0.5}) == 0.5
    for lie in ({"cpu_seconds": spent}, {}):
        with pytest.raises(REFUSALS):
            cpu_seconds(lie)


def test_what_a_cell_does_beside_measuring_is_shared_out_and_loading_stands_with_the_first() -> None:
    batch = [Measured(seconds={"decode": 1.0}), Measured(seconds={"decode": 2.0})]
    first, second = with_own_work(batch, 4.0, 7.0)
    assert (first.seconds, second.seconds) == ({"decode": 1.0, "cell": 0.5, "load": 7.0}, {"decode": 2.0, "cell": 0.5})
    assert with_own_work(batch, 1.0, 0.0)[0].seconds == {"decode": 1.0, "cell": 0.0}
    assert with_own_work([], 1.0, 1.0) == []
