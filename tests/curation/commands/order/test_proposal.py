"""The cheapest order: what it foresees is what measuring makes, and no order keeps another picture."""

import json
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.order.observe import OrderSample, sample_of
from curation.commands.order.proposal import exact, improved, propose
from curation.commands.order.replay import Cascades, Observed
from curation.dataset.tar import read_samples
from curation.errors import UsageError, WeightsError
from curation.measure.cascade import Entry, measure
from curation.measure.filter_set import load_bank, weights_of
from curation.recipe.judge import NotYet, Verdict, judge
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from filters.colour import ColourEvidence
from filters.detectors.base import Face
from filters.drawn import DrawnEvidence
from filters.faces import FacesEvidence
from filters.weights import find_weights
from tests.curation.poisoned import poison_recipe, poisoned_shard, use_third_party
from tests.curation.shards import RECIPE as SHARD_RECIPE
from tests.curation.shards import colourful, encode, grey, recipe_from, sample_members, write_shard
from tests.third_party.poison import NAP, SEGFAULT

RECIPE = """
schema_version = 1
name = "ordering"
[curate]
shadow_fraction = {shadow}
[[filters]]
name = "faces"
measure = {{ detector = "centerface", weights = "centerface", side = 160 }}
keep.max_confidence = {{ max = 0.5 }}
[[filters]]
name = "colour"
keep.mean_channel_std = {{ min = 12.0 }}
[[filters]]
name = "drawn"
keep.drawn_probability = {{ max = {drawn} }}
"""
SCREEN = """
  [[filters.screens]]
  filter = "colour"
    [[filters.screens.proofs]]
    when.mean_channel_std = { max = 60.0 }
    then.drawn_probability = { max = 0.4 }
"""
ALONE = Spread(num_workers=0)
NAMES = ("faces", "colour", "drawn")


def recipe_at(folder: Path, shadow: float = 0.0, drawn: float = 0.5) -> Recipe:
    return recipe_from(folder, RECIPE.format(shadow=shadow, drawn=drawn))


def ordered(recipe: Recipe, order: Sequence[str]) -> Recipe:
    curate_settings = recipe.file.curate.model_copy(update={"order": tuple(order)})
    return replace(recipe, file=recipe.file.model_copy(update={"curate": curate_settings}))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 20 pictures from grey to colourful, some faces and a torn one among them."""
    for name in ("centerface", "efficientnet_lite0"):
        try:
            find_weights(name)
        except WeightsError as error:
            pytest.skip(str(error))
    from skimage import data

    face = data.astronaut()[:256, 120:376]
    folder = tmp_path_factory.mktemp("ordering") / "in"
    for shard in range(2):
        contents = [grey(seed) if seed % 4 == 0 else colourful(seed) for seed in range(16)]
        contents += [encode(np.roll(face, 5 * i, axis=1), "JPEG", 160) for i in range(3)]
        contents.append(colourful(99)[:-50])
        write_shard(folder, f"{shard:05d}", [sample_members(f"{shard}{i:04d}", one) for i, one in enumerate(contents)])
    return folder


@pytest.fixture(scope="module")
def drawn(source: Path, tmp_path_factory: pytest.TempPathFactory) -> OrderSample:
    return sample_of(source, recipe_at(tmp_path_factory.mktemp("recipe")), 100, seed=0)


def by_hand() -> list[Observed]:
    """100 pictures: `drawn` and `faces` reject the first half, `colour` nearly all of the rest; no model is asked."""
    face = Face(0.0, 0.0, 4.0, 4.0, 0.9, (1.0,) * 10)
    return [
        Observed(
            {
                "faces": FacesEvidence(8, 8, (face,) if number < 50 else ()),
                "colour": ColourEvidence(0.0 if 50 <= number < 95 else 99.0, 0.0, 0.0, 0.0),
                "drawn": DrawnEvidence(9.0 if number < 50 else -9.0, 0.0),
            },
            {"drawn": 1.0, "faces": 1.1, "colour": 3.0},
        )
        for number in range(100)
    ]


def test_filters_that_reject_the_same_pictures_do_not_stand_side_by_side(tmp_path: Path) -> None:
    found = propose(by_hand(), recipe_at(tmp_path))
    assert found.proposed.order == ("drawn", "colour", "faces")  # by cost and rejection alone: drawn, faces, colour
    assert found.proposed.seconds == pytest.approx(1.0 + 0.5 * 3.0 + 0.05 * 1.1)
    assert found.declared.order == found.recipe.order == NAMES
    assert found.recipe.seconds == pytest.approx(1.1 + 0.5 * 3.0 + 0.05 * 1.0)
    steps = {step.name: (step.asked, step.rejected) for step in found.proposed.steps}
    assert steps == {"drawn": (1.0, 0.5), "colour": (0.5, 0.45), "faces": (pytest.approx(0.05), 0.0)}
    assert found.rejects == {"faces": 0.5, "colour": 0.45, "drawn": 0.5}
    assert found.line == 'order = ["drawn", "colour", "faces"]'
    saved, low, high = found.saving
    assert saved == pytest.approx(1 - found.proposed.seconds / found.recipe.seconds)
    assert low < saved < high


def test_a_saving_that_only_the_pictures_at_hand_would_bring_is_called_uncertain(tmp_path: Path) -> None:
    sure = propose(by_hand(), recipe_at(tmp_path))
    assert sure.is_certain and sure.held_out_saving == pytest.approx(sure.saving[0], abs=0.05)
    kept, drawn_one = by_hand()[-1], by_hand()[0]
    few = [kept, kept, replace(drawn_one, known={**kept.known, "drawn": drawn_one.known["drawn"]}), kept]
    lucky = propose(few, recipe_at(tmp_path))
    assert lucky.saving[0] > 0 and lucky.proposed.order != NAMES
    assert not lucky.is_certain
    idle = [replace(one, known={**one.known, "faces": FacesEvidence(8, 8, ())}) for one in by_hand()]
    unknown = propose(idle, recipe_at(tmp_path))
    assert unknown.saving[1] > 0 and unknown.held_out_saving > 0
    assert unknown.rejects["faces"] == 0.0 and not unknown.is_certain


def test_an_order_that_is_no_dearer_than_any_other_is_left_as_it_is(tmp_path: Path) -> None:
    kept = [replace(one, known=by_hand()[-1].known) for one in by_hand()]
    for order in permutations(NAMES):
        assert propose(kept, ordered(recipe_at(tmp_path), order)).proposed.order == order


def test_pictures_count_as_many_times_as_they_stand_for(tmp_path: Path) -> None:
    few = [by_hand()[0], replace(by_hand()[60], weight=9.0)]
    many = [by_hand()[0], *[by_hand()[60]] * 9]
    assert propose(few, recipe_at(tmp_path)).proposed.seconds == pytest.approx(
        propose(many, recipe_at(tmp_path)).proposed.seconds
    )


@pytest.mark.slow
def test_a_screen_precedes_its_filter_and_spares_it_in_every_order_as_measuring_does(
    tmp_path: Path, source: Path
) -> None:
    recipe = recipe_from(tmp_path, RECIPE.format(shadow=0.0, drawn=0.5) + SCREEN)
    told = sample_of(source, recipe, 100, seed=0)
    cascades, found = Cascades(told.observed, recipe), propose(told.observed, recipe)
    assert cascades.series == (("faces",), ("colour",), ("drawn_screen", "drawn"))
    orders = [order for order in permutations(cascades.names) if order.index("drawn_screen") < order.index("drawn")]
    assert found.proposed.order in orders and len(orders) == 12
    assert found.proposed.seconds == pytest.approx(min(cascades.play(order).seconds for order in orders))
    for order in orders[::3]:
        calls = calls_of(ordered(recipe, order), source)
        played = {step.name: round(step.asked * len(told.observed)) for step in cascades.play(order).steps}
        assert played == {name: calls[name] for name in order}
        assert calls["drawn"] < calls["drawn_screen"]


def calls_of(recipe: Recipe, source: Path) -> Counter[str]:
    """Measure the whole folder, and count who looked at how many pictures."""
    samples = [sample for path in sorted(source.glob("*.tar")) for sample in read_samples(path)]
    entries = [Entry(sample.uid(""), sample.image_bytes) for sample in samples]
    found = [one for one in measure(entries, load_bank(recipe, weights_of(recipe)), recipe) if one.refused is None]
    return Counter(name for one in found for name, evidence in one.evidence.items() if evidence is not None)


def test_what_must_precede_a_filter_does_so_in_whatever_is_proposed(tmp_path: Path) -> None:
    cascades = Cascades(by_hand(), recipe_at(tmp_path))
    free = exact(cascades, NAMES)
    cascades.series = (("colour", "drawn"), ("faces",))
    bound = [exact(cascades, ("faces", "colour", "drawn")), improved(cascades, ("faces", "colour", "drawn"))]
    assert free == ("drawn", "colour", "faces")
    assert bound == [("faces", "colour", "drawn")] * 2


def test_nothing_to_measure_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no readable picture"):
        propose([], recipe_at(tmp_path))


@pytest.mark.slow
def test_the_foreseen_calls_and_verdicts_are_those_that_measuring_makes(
    tmp_path: Path, source: Path, drawn: OrderSample
) -> None:
    recipe = recipe_at(tmp_path)
    samples = [sample for path in sorted(source.glob("*.tar")) for sample in read_samples(path)]
    entries = [Entry(sample.uid(""), sample.image_bytes) for sample in samples]
    cascades, kept = Cascades(drawn.observed, recipe), set()
    for order in list(permutations(NAMES))[::2]:
        one = ordered(recipe, order)
        found = [m for m in measure(entries, load_bank(one, weights_of(one)), one) if m.refused is None]
        calls = Counter(name for m in found for name, evidence in m.evidence.items() if evidence is not None)
        played = cascades.play(order)
        assert {step.name: round(step.asked * len(found)) for step in played.steps} == calls
        verdicts = [judge(m.evidence, one.criteria) for m in found]
        assert all(isinstance(verdict, Verdict) for verdict in verdicts)
        rejected = sum(not isinstance(verdict, NotYet) and not verdict.kept for verdict in verdicts)
        assert round(sum(step.rejected for step in played.steps) * len(found)) == rejected
        kept.add(tuple(not isinstance(verdict, NotYet) and verdict.kept for verdict in verdicts))
    assert len(kept) == 1 and 0 < sum(next(iter(kept))) < len(drawn.observed)


@pytest.mark.slow
def test_the_proposed_order_is_the_cheapest_of_all(tmp_path: Path, drawn: OrderSample) -> None:
    recipe = recipe_at(tmp_path)
    cascades, found = Cascades(drawn.observed, recipe), propose(drawn.observed, recipe)
    costs = {order: cascades.play(order).seconds for order in permutations(NAMES)}
    assert found.is_exact and min(costs.values()) < max(costs.values())
    assert found.proposed.seconds == pytest.approx(min(costs.values()))
    assert (len(drawn.observed), drawn.num_refused) == (38, 2)
    assert all(seconds > 0 for seconds in found.seconds.values())


@pytest.mark.slow
def test_a_run_says_the_same_from_its_shadow_sample_as_measuring_anew_does(
    tmp_path: Path, source: Path, drawn: OrderSample
) -> None:
    recipe = recipe_at(tmp_path, shadow=1.0)
    kept = curate(source, tmp_path / "run" / "curate", recipe, ALONE).num_kept
    told = sample_of(tmp_path / "run", recipe, 100, seed=0)
    anew, again = propose(drawn.observed, recipe), propose(told.observed, recipe)
    assert told.num_refused == 2
    assert [step.asked for step in again.recipe.steps] == pytest.approx([step.asked for step in anew.recipe.steps])
    assert again.rejects == pytest.approx(anew.rejects)
    assert 0 < kept < 38 and f"{kept} of {kept} kept and {38 - kept} of {38 - kept} rejected" in told.origin
    assert all(seconds > 0 for seconds in again.seconds.values())


def test_a_run_with_a_thin_shadow_or_other_columns_is_refused_with_the_way_out(tmp_path: Path, source: Path) -> None:
    curate(source, tmp_path / "run", recipe_at(tmp_path), ALONE)
    with pytest.raises(UsageError, match=r"0 rejected pictures with all their evidence.*name their folder"):
        sample_of(tmp_path / "run", recipe_at(tmp_path), 100, seed=0)
    other = recipe_from(tmp_path / "other", RECIPE.format(shadow=0.0, drawn=0.5).replace("side = 160", "side = 192"))
    with pytest.raises(UsageError, match="column 'faces' was measured otherwise"):
        sample_of(tmp_path / "run", other, 100, seed=0)


def test_only_what_every_recipe_of_a_run_had_in_its_shadow_is_taken_for_a_chance_sample(
    tmp_path: Path, source: Path
) -> None:
    late = recipe_at(tmp_path / "late", shadow=0.0, drawn=0.9)
    curate(source, tmp_path / "run" / "curate", recipe_at(tmp_path / "early", shadow=0.1), ALONE)
    decide(tmp_path / "run", late, ALONE, source)
    decide(tmp_path / "run", recipe_at(tmp_path / "last", shadow=1.0, drawn=0.9), ALONE, source)
    with pytest.raises(UsageError, match="0 rejected pictures with all their evidence"):
        sample_of(tmp_path / "run", recipe_at(tmp_path, shadow=1.0, drawn=0.9), 100, seed=0)


def test_a_run_without_a_readable_picture_says_so(tmp_path: Path) -> None:
    torn = [sample_members(f"{i:05d}", colourful(i)[:-50]) for i in range(3)]
    write_shard(tmp_path / "in", "00000", torn)
    recipe = recipe_from(tmp_path, SHARD_RECIPE)
    curate(tmp_path / "in", tmp_path / "run" / "curate", recipe, ALONE)
    with pytest.raises(UsageError, match="no readable picture"):
        sample_of(tmp_path / "run", recipe, 100, seed=0)


def test_the_first_call_of_every_new_cell_is_not_what_a_call_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_third_party(monkeypatch)
    poisoned_shard(tmp_path / "in", "00000", [NAP, NAP, SEGFAULT, NAP, NAP])
    told = sample_of(tmp_path / "in", poison_recipe(tmp_path), 100, seed=0)
    assert (len(told.observed), told.num_refused) == (4, 1)
    attempts = [line.rsplit(" ", 2)[0] for line in (tmp_path / "marks").read_text().splitlines()]
    places = enumerate([NAP, NAP, SEGFAULT, NAP, NAP])
    assert [attempts.count(f"{number} {[place] * 3}") for place, number in places] == [2, 1, 1, 2, 1]


@pytest.mark.slow
def test_the_command_line_prints_a_line_that_a_recipe_takes_and_writes_nothing(tmp_path: Path, source: Path) -> None:
    recipe_at(tmp_path)
    before = sorted(path for path in (*tmp_path.rglob("*"), *source.rglob("*")))
    command = ["order", str(source), "--recipe", str(tmp_path / "recipe.toml"), "--sample", "12"]
    shown, as_json = CliRunner().invoke(app, command), CliRunner().invoke(app, [*command, "--json"])
    assert (shown.exit_code, as_json.exit_code) == (0, 0), shown.output + as_json.output
    section = tomllib.loads(shown.output[shown.output.index("[curate]") :])
    assert sorted(section["curate"]["order"]) == sorted(NAMES)
    values = json.loads(as_json.output)
    assert values["num_pictures"] + values["num_refused"] == 12
    text = RECIPE.format(shadow=0.0, drawn=0.5).replace("[curate]", f"[curate]\n{values['line']}")
    assert recipe_from(tmp_path / "again", text).order == tuple(values["proposed"]["order"])
    assert sorted(path for path in (*tmp_path.rglob("*"), *source.rglob("*")) if "again" not in path.parts) == before
