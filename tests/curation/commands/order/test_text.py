import json
import tomllib
from dataclasses import replace

import pytest

from curation.commands.order.observe import OrderSample
from curation.commands.order.proposal import Proposal
from curation.commands.order.replay import Played, Step
from curation.commands.order.text import tell, values

DRAWN = OrderSample((), "200 of 5000 samples in 3 of 3 shards of tars", 4, 0.0125)
RECIPE = Played(("faces", "colour"), 0.020, ())
CHEAP = Played(
    ("colour", "faces_screen", "faces"),
    0.010,
    (
        Step("colour", 1.0, 0.25, 0.002),
        Step("faces_screen", 0.75, 0.0, 0.003),
        Step("faces", 0.5, 0.125, 0.005),
    ),
)
FOUND = Proposal(
    num_pictures=196,
    is_exact=True,
    seconds={"colour": 0.002, "faces_screen": 0.004, "faces": 0.010},
    rejects={"colour": 0.25, "faces": 0.375},
    recipe=RECIPE,
    declared=replace(RECIPE, seconds=0.030),
    proposed=CHEAP,
    saving=(0.5, 0.4, 0.625),
    held_out_saving=0.45,
)


def test_a_proposal_is_told_by_step_by_total_and_by_what_it_saves() -> None:
    assert tell(FOUND, DRAWN).splitlines() == [
        "200 of 5000 samples in 3 of 3 shards of tars",
        "196 readable pictures, 4 samples without one",
        "",
        "proposed, in turn           ms a call   measures   rejects   alone it would",
        "colour                           2.00     100.0%     25.0%         25.0%",
        "faces_screen                     4.00      75.0%      0.0%             -",
        "faces                           10.00      50.0%     12.5%         37.5%",
        "",
        "CPU ms per readable picture, 12.50 of decoding included",
        "recipe          32.50  faces, colour",
        "declared        42.50  faces, colour",
        "proposed        22.50  colour, faces_screen, faces",
        "the proposed order, the cheapest of all orders, saves 50.0% of the measuring (95 %: 40.0% to 62.5%)",
        "chosen on one half of the pictures, it saves 45.0% on the other",
        "",
        "[curate]",
        'order = ["colour", "faces_screen", "faces"]',
    ]


def test_the_last_lines_are_a_table_that_a_recipe_takes() -> None:
    told = tell(FOUND, DRAWN)
    assert tomllib.loads(told[told.index("[curate]") :])["curate"]["order"] == list(CHEAP.order)


@pytest.mark.parametrize(
    ("found", "caveat"),
    [
        (replace(FOUND, proposed=RECIPE), "the recipe's own order is the cheapest already"),
        (replace(FOUND, saving=(0.5, -0.1, 0.6)), "so few pictures do not tell it from the recipe's own"),
        (replace(FOUND, held_out_saving=-0.2), "so few pictures do not tell it from the recipe's own"),
        (replace(FOUND, rejects={"colour": 0.0, "faces": 0.0}), "of the sample colour and faces would reject none"),
        (replace(FOUND, is_exact=False), "no single move makes it cheaper"),
    ],
)
def test_what_a_proposal_does_not_prove_is_said(found: Proposal, caveat: str) -> None:
    assert caveat in tell(found, DRAWN)
    assert caveat not in tell(FOUND, DRAWN)


def test_the_values_say_where_the_pictures_came_from_and_what_a_recipe_takes() -> None:
    said = json.loads(json.dumps(values(FOUND, DRAWN)))
    assert (said["origin"], said["num_refused"], said["decode_seconds"]) == (DRAWN.origin, 4, 0.0125)
    assert (said["is_certain"], said["line"]) == (True, 'order = ["colour", "faces_screen", "faces"]')
