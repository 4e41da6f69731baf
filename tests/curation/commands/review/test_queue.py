from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from curation.commands.review.agreement import agreements, cohen_kappa
from curation.commands.review.folder import open_curated
from curation.commands.review.queue import CONTROL, SHARES, Stratum, allocate, draw, token
from curation.commands.review.strata import strata_of
from curation.commands.review.table import read_table
from curation.dataset.labels import Label
from tests.curation.commands.report.run import write_run

NAMES = st.lists(
    st.sampled_from(["near a inside", "near a outside", "near b inside", "contested", "disagree", "control"]),
    unique=True, max_size=6,
)  # fmt: skip


def stratum(name: str, size: int, seed: int = 0) -> Stratum:
    uids = sorted((f"{name}-{number}" for number in range(size)), key=lambda uid: token(uid, seed))
    return Stratum(name, size, tuple(uids))


@settings(max_examples=25)
@given(st.data())
def test_a_queue_draws_nobody_twice_and_states_the_probability_that_it_drew_with(data: st.DataObject) -> None:
    strata = [stratum(name, data.draw(st.integers(1, 40))) for name in data.draw(NAMES)]
    num = data.draw(st.integers(1, 120))
    queue = draw(strata, num)
    assert len(queue) == len({one.uid for one in queue}) == min(num, sum(one.size for one in strata))
    drawn = Counter(one.stratum for one in queue)
    for one in strata:
        assert {entry.probability for entry in queue if entry.stratum == one.name} <= {drawn[one.name] / one.size}


@settings(max_examples=15)
@given(st.integers(4, 90))
def test_however_early_a_queue_is_left_each_stratum_has_given_its_part(num: int) -> None:
    strata = [stratum("near a inside", 200), stratum("contested", 60), stratum("control", 1000)]
    sizes = dict(zip((one.name for one in strata), allocate(strata, num), strict=True))
    queue = draw(strata, num)
    for length in range(1, num + 1):
        given_ = Counter(one.stratum for one in queue[:length])
        assert all(abs(given_[name] - size * length / num) <= 1 for name, size in sizes.items())


def test_shares_add_up_and_what_one_stratum_cannot_fill_goes_to_the_others() -> None:
    assert abs(sum(SHARES.values()) - 1) < 1e-12
    strata = [stratum("near a inside", 2), stratum("contested", 100), stratum("control", 100)]
    assert allocate(strata, 100) == [2, 49, 49]


def test_over_many_seeds_every_picture_is_drawn_as_often_as_its_probability_says() -> None:
    drawn = Counter[str]()
    for seed in range(300):
        queue = draw([stratum("contested", 5, seed), stratum("control", 20, seed)], 8)
        drawn.update(one.uid for one in queue)
    assert {one.probability for one in queue} == {4 / 5, 4 / 20}
    for uid, num in drawn.items():
        expected = 300 * (0.8 if uid.startswith("contested") else 0.2)
        assert abs(num - expected) < 5 * (expected * 0.8) ** 0.5, uid


def test_strata_part_all_that_filters_judged_and_weigh_back_to_the_run(tmp_path: Path) -> None:
    reviewed = open_curated(write_run(tmp_path / "run"))
    table = read_table(reviewed)
    strata = strata_of(table, 1000, seed=3)
    ((num_judged,),) = table.ask("SELECT count(*) FROM rows WHERE judged AND is_first")
    uids = [uid for one in strata for uid in one.uids]
    assert sum(one.size for one in strata) == len(uids) == len(set(uids)) == num_judged == 18
    assert all(list(one.uids) == sorted(one.uids, key=lambda uid: token(uid, 3)) for one in strata)
    near = [one for one in strata if one.kind == "near"]
    assert {one.name.rpartition(" ")[2] for one in near} == {"inside", "outside"}
    assert CONTROL in {one.kind for one in strata}
    assert abs(sum(1 / one.probability for one in draw(strata, 9)) - num_judged) < 1e-9


def test_kappa_is_one_for_those_who_agree_and_none_where_chance_agrees_too() -> None:
    assert cohen_kappa([("a", "a"), ("b", "b")])[0] == 1
    assert cohen_kappa([("a", "a"), ("a", "a")]) == (None, None, None)
    both = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    kappa, low, high = cohen_kappa(both)
    assert kappa is not None and low is not None and high is not None
    assert abs(kappa - 0.4) < 1e-12 and low < 0.4 < high  # 0.7 observed, 0.5 by chance
    labels = [Label(f"{i:032x}", pair[who], name, "t") for i, pair in enumerate(both) for who, name in enumerate("ab")]
    (agreement,) = agreements([*labels, Label("f" * 32, "yes", "c", "t")])
    assert (agreement.reviewers, agreement.num, agreement.num_agreed) == (("a", "b"), 50, 35)
    assert agreement.pairs == {("no", "yes"): 10, ("yes", "no"): 5}
