"""The audit fires where a slice is turned away, and nowhere else, whoever was measured of the rejected."""

from pathlib import Path

import numpy as np
import pytest

from curation.commands.curate.stage import curate
from curation.commands.fairness.audit import Audit, FilterMasks, SliceFigures, audit, slices_of
from curation.commands.fairness.slices import Attribute
from curation.commands.fairness.text import tell, values
from curation.run.runner import Spread
from curation.storage.publish import json_bytes
from tests.curation.shards import colourful, grey, recipe_from, sample_members, write_shard

RECIPE = """
schema_version = 1
name = "audited"
[curate]
isolate = false
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
"""


def sliced(rates: dict[str, float], num: int, seed: int, weights: np.ndarray | None = None) -> list[SliceFigures]:
    """Audit slices of equal size, each kept at its own rate by one filter."""
    dice = np.random.default_rng(seed)
    names = np.repeat(list(rates), num)
    kept = dice.random(len(names)) < np.repeat(list(rates.values()), num)
    weights = np.ones(len(names)) if weights is None else weights
    attribute = Attribute("light", names.tolist(), weights, "all")
    return slices_of(attribute, kept, {"colour": FilterMasks(np.ones(len(names), bool), ~kept)})


@pytest.mark.parametrize("num", [100, 1000])
def test_the_audit_fires_on_a_planted_bias_and_on_none_without(num: int) -> None:
    for seed in range(20):
        planted = {one.value: one for one in sliced({"dark": 0.45, "middle": 0.9, "bright": 0.9}, num, seed)}
        assert planted["dark"].finding == "adverse" and planted["dark"].filters["colour"].is_shown
        assert {planted[name].finding for name in ("middle", "bright")} == {"reference", "even"}
        assert planted["dark"].after < planted["dark"].before
        even = sliced({"dark": 0.9, "middle": 0.9, "bright": 0.9}, num, seed)
        assert {one.finding for one in even} == {"reference", "even"}
        assert not any(one.filters["colour"].is_shown for one in even)


def test_few_pictures_are_not_judged_nor_are_others_held_against_them() -> None:
    found = {one.value: one.finding for one in sliced({"dark": 1.0, "bright": 0.5}, 20, 0)}
    assert set(found.values()) == {"too few"}
    heavy = np.where(np.arange(400) < 5, 1000.0, 1.0)  # five that stand for nearly all of a slice tell as little
    assert {one.value: one.finding for one in sliced({"dark": 0.2, "bright": 0.9}, 200, 0, heavy)}["dark"] == "too few"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 160 pictures from two top-level domains half of those from `.org` are grey, and say so in their captions."""
    folder = tmp_path_factory.mktemp("fairness")
    members = []
    for number in range(160):
        is_org, is_grey = number % 2 == 0, number % 4 == 0
        url = f"http://host{number}.example.{'org' if is_org else 'com'}/{number}.jpg"
        sample = sample_members(f"{number:03d}", (grey if is_grey else colourful)(number), url=url)
        members.append([*sample[:2], (f"{number:03d}.txt", b"an old photo" if is_grey else b"A photo, goldfish")])
    write_shard(folder / "run" / "fetch", "00000", members)
    curate(folder / "run" / "fetch", folder / "run" / "curate", recipe_from(folder, RECIPE), Spread(0))
    return folder


def slices(found: Audit, attribute: str) -> dict[str, SliceFigures]:
    return {one.value: one for one in found.slices if one.attribute == attribute}


def test_a_run_is_audited_by_what_its_ledgers_hold(run: Path) -> None:
    found = audit(run / "run")
    assert [(one.attribute, one.value) for one in found.adverse] == [("domain", "org")]
    org = slices(found, "domain")["org"]
    assert (org.kept.value, org.before, org.after) == pytest.approx((0.5, 0.5, 1 / 3))
    assert org.filters["colour"].is_shown
    assert set(found.lacking) == {"face side", "face luminance", "face lightness", "face hue"}
    text = tell(found)
    assert "ADVERSE: domain org" in text and "more often rejected by colour" in text
    assert json_bytes(values(found))


def test_words_of_captions_and_labels_are_slices_too(run: Path) -> None:
    words = audit(run / "run", words=("OLD", "gold"))
    assert slices(words, "caption OLD")["yes"].finding == "adverse" and not slices(words, "caption gold")
    nowhere = audit(run / "run", words=("old",), source=run / "gone")
    assert "160 pictures are in no tar" in nowhere.lacking["caption old"]


def test_shadow_pictures_stand_for_the_rejected_whose_attribute_was_not_measured() -> None:
    from curation.commands.fairness.slices import AuditRows, _weighed

    uids = [f"{number:024x}{number * (1 << 32) // 100:08x}" for number in range(100)]
    kept = np.arange(100) >= 60
    values = ["a" if number < 10 or number >= 60 else None for number in range(100)]
    weighed = _weighed("light", values, AuditRows(uids, kept, {}, 0.1))
    assert isinstance(weighed, Attribute)
    assert weighed.weights[~kept].sum() == pytest.approx(100) and (weighed.weights[kept] == 1).all()
    assert "no shadow sample" in str(_weighed("light", values, AuditRows(uids, kept, {}, 0.0)))
    values[80] = None
    assert "1 of the kept" in str(_weighed("light", values, AuditRows(uids, kept, {}, 0.1)))
