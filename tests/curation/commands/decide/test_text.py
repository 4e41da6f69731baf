import json
from dataclasses import replace

from curation.commands.decide.preview import Change, Preview
from curation.commands.decide.text import NUM_CHANGES_SHOWN, tell, values
from curation.recipe.judge import Verdict

KEPT, GREY = Verdict(None, None), Verdict("colour", "mean_channel_std_low")
SETTLED = Preview(
    num_seen=24,
    num_kept_before=18,
    num_kept=16,
    rejected={"colour": {"mean_channel_std_low": 5, "toning_residual_low": 2}, "decode": {"truncated": 1}},
    num_shards=1,
    changes=(Change("uid1", "00000", KEPT, GREY), Change("uid2", "00003", GREY, KEPT)),
)
OPEN = replace(
    SETTLED,
    num_undecided=100,
    calls={"text": 100, "faces": 40},
    calls_at_most={"text_screen": 3},
    shadow_hits=5,
    shadow_trials=10,
)


def test_what_the_ledgers_settle_is_told_as_certain() -> None:
    assert tell(SETTLED).splitlines() == [
        "24 seen, 18 kept now",
        "would be rejected: 7 by colour (mean_channel_std_low 5, toning_residual_low 2)",
        "would be rejected: 1 by decode (truncated 1)",
        "would be kept: 16 for certain",
        "shards to write anew: 1; certain to change sides: 2",
        "  uid1 (shard 00000): kept -> colour.mean_channel_std_low",
        "  uid2 (shard 00003): colour.mean_channel_std_low -> kept",
    ]


def test_where_nothing_would_change_one_line_says_so() -> None:
    last = tell(replace(SETTLED, num_kept=18, num_shards=0, changes=())).splitlines()[-1]
    assert last == "nothing would change: every picture keeps its verdict, and no file is written anew"
    assert "nothing would change" not in tell(replace(SETTLED, changes=()))


def test_what_must_be_measured_is_told_with_its_calls_and_the_interval_of_what_stays() -> None:
    told = tell(OPEN).splitlines()
    assert told[7].startswith("(a shadow sample is a rejected picture that was measured in full all the same")
    assert told[4:7] == [
        "undecided: 100; measuring them takes these calls: text 100, faces 40",
        "and, once those have measured, at most these: text_screen 3",
        "kept in the end: 40 to 92 (95 %), about 66",
    ]


def test_kept_samples_that_become_undecided_leave_no_best_guess() -> None:
    told = tell(replace(OPEN, num_undecided_kept=30))
    assert "undecided: 100, 30 of them kept now, for which no shadow sample stands; measuring them" in told
    assert "kept in the end: 33 to 99 (95 %), no shadow sample stands for all of them" in told


def test_calls_that_only_the_shadow_sample_needs_are_told_without_an_undecided_one() -> None:
    told = tell(replace(SETTLED, calls={"text": 2})).splitlines()
    assert told[4] == "calls: text 2"


def test_a_long_list_of_changes_is_cut_and_says_so_while_the_values_hold_all() -> None:
    many = replace(SETTLED, changes=SETTLED.changes[:1] * (NUM_CHANGES_SHOWN + 3))
    told = tell(many).splitlines()
    assert (sum("uid1" in line for line in told), told[-1]) == (20, "  ... and 3 more (--json lists all)")
    assert tell(replace(many, changes=many.changes[:NUM_CHANGES_SHOWN])).count("uid1") == 20
    assert "more" not in tell(replace(many, changes=many.changes[:NUM_CHANGES_SHOWN]))
    assert len(values(many)["changes"]) == 23


def test_the_values_are_plain_and_hold_the_bounds_of_what_stays() -> None:
    said = json.loads(json.dumps(values(OPEN)))
    assert (said["kept_low"], said["kept_expected"], said["kept_high"]) == (40, 66, 92)
    assert said["changes"][0]["after"] == {"rejected_by": "colour", "reason": "mean_channel_std_low"}
    assert values(replace(OPEN, shadow_hits=0, shadow_trials=0))["kept_expected"] is None
