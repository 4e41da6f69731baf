import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide, foresee
from curation.commands.pack.stage import pack
from curation.commands.verify.check import verify
from curation.commands.why.story import why
from curation.commands.why.text import tell
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_manifest, read_report
from curation.dataset.tar import read_samples
from curation.errors import RecipeError
from curation.recipe.judge import KEPT, NotYet, Verdict, judge
from curation.recipe.recipe import Recipe, recipe_of
from curation.run.runner import Spread
from curation.storage.publish import digest
from filters.detectors.base import Face
from filters.detectors.ppocr import MapRegion
from filters.faces import FacesEvidence
from filters.text import TextEvidence
from filters.text_map import TextMapEvidence
from tests.curation.poisoned import use_third_party
from tests.curation.shards import bytes_of, mixed_source, recipe_from

ALONE = Spread(num_workers=0)
RECIPE = """
schema_version = 1
name = "screened"
[curate]
shadow_fraction = 0.0
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
[[filters.screens]]
filter = "colour"
measure = { toning_side = 32 }
[[filters.screens.proofs]]
when.toning_residual = { max = 0.5 }
then.mean_channel_std = { max = 1.0 }
[[filters.screens.proofs]]
when.toning_residual = { min = 38.0 }
then.mean_channel_std = { min = 5.0 }
"""
"""Grey is proven to go, the most colourful pictures are proven to stay, those between are the filter's own."""


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in read_ledger(path).to_pylist()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run curated with screens, beside one without."""
    folder = tmp_path_factory.mktemp("screens")
    mixed_source(folder / "fetch")
    curate(folder / "fetch", folder / "curate", recipe_from(folder / "on", RECIPE), ALONE)
    curate(folder / "fetch", folder / "plain", recipe_from(folder / "off", off(RECIPE)), ALONE)
    return folder


def off(text: str) -> str:
    return text.replace("[curate]", '[curate]\nscreens = "off"')


def test_screens_keep_the_same_pictures_and_spare_the_filter_what_they_prove(run: Path) -> None:
    screened, plain = rows_of(run / "curate"), rows_of(run / "plain")
    assert [row["kept"] for row in screened] == [row["kept"] for row in plain]
    looked = [row for row in screened if row["colour_screen_evidence"] is not None]
    proven = [row for row in looked if row["colour_evidence"] is None]
    grey = [row for row in proven if not row["kept"]]
    assert len(grey) == 6 and {row["reason"] for row in grey} == {"mean_channel_std_low"}
    assert any(row["kept"] for row in proven), "some are proven to stay"
    assert 0 < len(proven) < len(looked), "the filter decides the rest"
    assert "colour_screen_evidence" not in plain[0]
    tars = [{name: data for name, data in bytes_of(run / one).items() if ".tar" in name} for one in ("curate", "plain")]
    assert tars[0] == tars[1]


def test_what_was_measured_besides_changes_no_verdict(run: Path, tmp_path: Path) -> None:
    everything = recipe_from(tmp_path, RECIPE.replace("[curate]", '[curate]\nmeasure = "all"'))
    curate(run / "fetch", tmp_path / "all", everything, ALONE)
    rows, needed = rows_of(tmp_path / "all"), rows_of(run / "curate")
    assert all(row["colour_evidence"] is not None for row in rows if row["colour_screen_evidence"] is not None)
    verdicts = [[(row["kept"], row["rejected_by"], row["reason"]) for row in part] for part in (rows, needed)]
    assert verdicts[0] == verdicts[1]


def test_why_tells_what_a_screen_has_proven_and_what_was_measured_besides(run: Path, tmp_path: Path) -> None:
    everything = recipe_from(tmp_path, RECIPE.replace("[curate]", '[curate]\nmeasure = "all"'))
    curate(run / "fetch", tmp_path / "run" / "curate", everything, ALONE)
    grey = next(row for row in rows_of(run / "curate") if row["reason"] == "mean_channel_std_low")
    for folder, said in ((run / "curate", "not measured"), (tmp_path / "run", "0")):
        (story,) = why(folder, grey["uid"])
        assert f"{said}, proven by colour_screen, fails (low)   <- this decided" in tell(story)


def test_a_rejected_shadow_sample_is_measured_only_as_far_as_its_screens_leave_it_in_doubt(
    run: Path, tmp_path: Path
) -> None:
    shadow = recipe_from(tmp_path, RECIPE.replace("shadow_fraction = 0.0", "shadow_fraction = 1.0"))
    curate(run / "fetch", tmp_path / "shadow", shadow, ALONE)
    assert rows_of(tmp_path / "shadow") == rows_of(run / "curate")


def test_verify_finds_a_screened_run_as_it_should_be_and_why_names_the_screen(run: Path) -> None:
    assert verify(run / "curate", ALONE).ok
    grey = next(row for row in rows_of(run / "curate") if row["reason"] == "mean_channel_std_low")
    (story,) = why(run, grey["uid"])
    assert story.criteria[0].proven_by == "colour_screen" and story.criteria[0].decided
    assert "not measured, proven by colour_screen, fails (low)   <- this decided" in tell(story)


def test_a_keep_range_tighter_than_the_proof_is_the_filters_own_matter(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    curate(run / "fetch", copy / "curate", recipe_from(tmp_path / "on", RECIPE), ALONE)
    tight = recipe_from(tmp_path / "tight", RECIPE.replace("min = 2.0", "min = 50.0"))
    unproven = [row for row in rows_of(copy / "curate") if row["kept"] and row["colour_evidence"] is None]
    assert unproven and foresee(copy, tight).calls == {"colour": len(unproven)}
    decide(copy, tight, ALONE, run / "fetch")
    plain = recipe_from(tmp_path / "plain", off(RECIPE).replace("min = 2.0", "min = 50.0"))
    curate(run / "fetch", tmp_path / "again", plain, ALONE)
    assert [row["kept"] for row in rows_of(copy / "curate")] == [row["kept"] for row in rows_of(tmp_path / "again")]


def test_a_screen_that_can_settle_none_of_the_keep_ranges_is_not_asked(run: Path, tmp_path: Path) -> None:
    grey, _, bright = RECIPE.partition("[[filters.screens.proofs]]\nwhen.toning_residual = { max")
    keeping = grey + bright[bright.index("[[filters.screens.proofs]]") :]
    copy = tmp_path / "run"
    curate(run / "fetch", copy / "curate", recipe_from(tmp_path / "on", keeping), ALONE)
    unproven = [row for row in rows_of(copy / "curate") if row["kept"] and row["colour_evidence"] is None]
    tight = recipe_from(tmp_path / "tight", keeping.replace("min = 2.0", "min = 20.0"))
    assert [one.screens for one in tight.criteria] == [()] and tight.certain == {"colour"}
    foreseen = foresee(copy, tight)
    assert (foreseen.calls, foreseen.calls_at_most) == ({"colour": len(unproven)}, {}) and unproven
    curate(run / "fetch", tmp_path / "out", tight, ALONE)
    assert all(row["colour_screen_evidence"] is None for row in rows_of(tmp_path / "out"))
    assert pack(tmp_path / "out", tmp_path / "pack", tight, ALONE).num_kept > 0


def test_a_dry_run_tells_who_is_asked_first_exactly_and_who_after_at_most(run: Path, tmp_path: Path) -> None:
    two = RECIPE + RECIPE[RECIPE.index("[[filters.screens]]") :].replace("toning_side = 32", "toning_side = 64")
    copy = tmp_path / "run"
    curate(run / "fetch", copy / "curate", recipe_from(tmp_path / "on", two), ALONE)
    tight = recipe_from(tmp_path / "tight", two.replace("min = 2.0", "min = 50.0"))
    before = rows_of(copy / "curate")
    proven = [row["colour_screen_2_evidence"] is None for row in before if row["kept"] and not row["colour_evidence"]]
    foreseen, num_first, num_then = foresee(copy, tight), proven.count(True), proven.count(False)
    assert foreseen.calls == {"colour_screen_2": num_first, "colour": num_then} and num_then > 0
    assert foreseen.calls_at_most == {"colour": num_first} and num_first > 0
    shown = CliRunner().invoke(app, ["decide", str(copy), "--recipe", tight.path, "--dry-run"]).output
    assert f"and, once those have measured, at most these: colour {num_first}" in shown
    decide(copy, tight, ALONE, run / "fetch")
    made = Counter(
        name
        for old, new in zip(before, rows_of(copy / "curate"), strict=True)
        for name in ("colour_screen", "colour_screen_2", "colour")
        if old[f"{name}_evidence"] is None and new[f"{name}_evidence"] is not None
    )
    assert made["colour_screen_2"] == num_first and not made["colour_screen"]
    assert num_then < made["colour"] <= num_then + num_first


SHADOW = """order = ["poison", "colour"]
shadow_fraction = 0.5
"""


def shadowed(folder: Path, text: str, brightness: int, *changes: tuple[str, str]) -> Recipe:
    """Return a recipe whose dark pictures only are looked at by `colour`, and half of the others for its shadow."""
    text = text.replace("shadow_fraction = 0.0\n", SHADOW)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    other = f'[[filters]]\nname = "poison"\nmeasure.marks = "{folder}/marks"\n'
    text += f"{other}keep.brightness = {{ max = {brightness} }}\n"
    return recipe_from(folder / digest([text, brightness])[:8], text)


RENEWED = ("toning_side = 32", "toning_side = 64")
TRUSTING, DOUBTING = RECIPE.replace("min = 38.0", "min = 10.0"), ("min = 38.0", "min = 99.0")


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [(RECIPE.partition("[[filters.screens]]")[0], RECIPE, []), (TRUSTING, RECIPE, [RENEWED, DOUBTING])],
    ids=["added", "renewed"],
)
def test_the_shadow_sample_stays_whole_when_a_screen_is(
    before: str, after: str, changes: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_third_party(monkeypatch)
    run, target = tmp_path, tmp_path / "curate"
    mixed_source(run / "fetch")
    curate(run / "fetch", target, shadowed(run, before, 127), ALONE)
    num_trials = foresee(run, shadowed(run, before, 255)).shadow_trials
    other, loose = (shadowed(run, after, limit, *changes) for limit in (127, 255))
    foreseen = foresee(run, other)
    decide(run, other, ALONE)
    calls = [Counter(read_report(path).run["calls"]) for path in target.glob("0*_stats.json")]
    made = sum(calls, Counter[str]())
    assert made["colour_screen"] == foreseen.calls["colour_screen"] > 0
    assert made["colour"] <= foreseen.calls_at_most.get("colour", 0)
    assert bool(made["colour"]) == (changes != []), "what the new screen leaves in doubt is the filter's"
    again = foresee(run, loose)
    assert again.shadow_trials == num_trials > 2
    low, high = again.kept_interval
    assert low <= decide(run, loose, ALONE).num_kept <= high and again.num_undecided > 2


def test_a_packed_sample_holds_the_scores_that_every_kept_one_has(run: Path, tmp_path: Path) -> None:
    recipe = recipe_from(tmp_path, RECIPE)
    pack(run / "curate", tmp_path / "pack", recipe, ALONE)
    assert recipe.certain == {"colour_screen"}
    assert [*read_manifest(tmp_path / "pack").extra["schema"]["scores"]] == ["colour_screen"]
    for tar in (tmp_path / "pack").glob("*.tar"):
        assert all([*sample.metadata["scores"]] == ["colour_screen"] for sample in read_samples(tar))


def test_only_a_screen_that_may_prove_every_keep_range_spares_the_filter(tmp_path: Path) -> None:
    rejecting = RECIPE.split("[[filters.screens.proofs]]\nwhen.toning_residual = { min", maxsplit=1)[0]
    assert recipe_from(tmp_path / "a", rejecting).certain == {"colour", "colour_screen"}
    two = RECIPE.replace("keep.mean", "keep.chromatic_share = { min = 0.1 }\nkeep.mean")
    assert recipe_from(tmp_path / "b", two).certain == {"colour", "colour_screen"}


def test_a_filter_that_no_keep_range_of_its_own_asks_is_promised_by_nobody(tmp_path: Path) -> None:
    joint_only = """
schema_version = 1
name = "joint-only"
[[filters]]
name = "text"
keep.face_overlap_fraction = { max = 0.05 }
[[filters]]
name = "faces"
"""
    assert recipe_from(tmp_path / "a", joint_only).certain == frozenset()
    everything = joint_only.replace("[[filters]]", '[curate]\nmeasure = "all"\n[[filters]]', 1)
    assert recipe_from(tmp_path / "b", everything).certain == {"text", "faces"}


def test_proofs_that_contradict_one_another_prove_nothing(run: Path, tmp_path: Path) -> None:
    text = (
        RECIPE
        + """
[[filters.screens.proofs]]
when.toning_residual = { max = 0.5 }
then.mean_channel_std = { min = 50.0 }
"""
    )
    curate(run / "fetch", tmp_path / "out", recipe_from(tmp_path, text), ALONE)
    rows = rows_of(tmp_path / "out")
    assert [row["kept"] for row in rows] == [row["kept"] for row in rows_of(run / "plain")]
    assert all(row["colour_evidence"] is not None for row in rows if row["reason"] == "mean_channel_std_low")


def test_a_recipe_with_screens_survives_its_resolved_form_and_the_way_to_another_process(tmp_path: Path) -> None:
    for text in (RECIPE, off(RECIPE)):
        recipe = recipe_from(tmp_path, text)
        again: Recipe = pickle.loads(pickle.dumps(recipe))
        for other in (again, recipe_of(recipe.resolved, "resolved")):
            assert other.curate_digest == recipe.curate_digest
            assert other.order == recipe.order
    assert recipe_from(tmp_path, RECIPE).order == ("colour_screen", "colour")
    assert recipe_from(tmp_path, off(RECIPE)).order == ("colour",)


def test_an_order_may_part_a_screen_from_its_filter_but_not_turn_them_round(tmp_path: Path) -> None:
    text = RECIPE + '[[filters]]\nname = "faces"\n'
    order = "[curate]\norder = {}"
    parted = text.replace("[curate]", order.format('["colour_screen", "faces", "colour"]'))
    assert recipe_from(tmp_path, parted).order == ("colour_screen", "faces", "colour")
    assert recipe_from(tmp_path, off(parted)).order == ("faces", "colour")
    plain = text.replace("[curate]", order.format('["faces", "colour"]'))
    assert recipe_from(tmp_path, plain).order == ("faces", "colour_screen", "colour")
    with pytest.raises(RecipeError, match=r"\['colour_screen', 'colour'\] must stand in this order"):
        recipe_from(tmp_path, text.replace("[curate]", order.format('["colour", "colour_screen", "faces"]')))
    with pytest.raises(RecipeError, match="it may name colour_screen too"):
        recipe_from(tmp_path, text.replace("[curate]", order.format('["colour_screen", "faces"]')))


FACE_AWARE = """
schema_version = 1
name = "face-aware"
[[filters]]
name = "text"
keep.num_characters = { max = 10 }
keep.face_overlap_fraction = { max = 0.05 }
[[filters.screens]]
filter = "text_map"
[[filters.screens.proofs]]
when.num_glyphs = { max = 9 }
then.num_characters = { max = 10 }
[[filters.screens.proofs]]
when.face_overlap_fraction = { max = 0.01 }
then.face_overlap_fraction = { max = 0.05 }
[[filters]]
name = "faces"
keep.num_faces = { min = 1, max = 1 }
"""


def word(x: float, y: float) -> MapRegion:
    """A region of a few letters, 20 x 10 pixels."""
    return MapRegion((x, y, x + 20, y, x + 20, y + 10, x, y + 10), picture_fraction=0.02, mean=0.9, peak=0.95)


def test_a_proof_may_ask_where_the_face_is_and_waits_for_both_sides(tmp_path: Path) -> None:
    recipe = recipe_from(tmp_path, FACE_AWARE)
    face = FacesEvidence(100, 100, (Face(10, 10, 50, 50, 0.9, (0.0,) * 10),))
    beside, across = (TextMapEvidence(100, 100, (1,) * 20, (word(x, x),)) for x in (70.0, 20.0))

    def verdict(**known: Any) -> Any:
        return judge({**dict.fromkeys(plan.name for plan in recipe.measurers), **known}, recipe.criteria)

    assert verdict() == NotYet(("text_screen", "faces"))
    assert verdict(text_screen=beside) == NotYet(("faces",))
    assert verdict(text_screen=beside, faces=face) == KEPT
    assert verdict(text_screen=across, faces=face) == NotYet(("text",))
    assert verdict(text_screen=across, faces=FacesEvidence(100, 100, ())) == Verdict("faces", "num_faces_low")
    nothing_found, letters = TextEvidence(100, 100, (), ()), TextEvidence(100, 100, (word(20, 20).corners,), (3,))
    assert verdict(text_screen=across, text=nothing_found, faces=face) == KEPT
    assert verdict(text_screen=across, text=letters, faces=face) == Verdict("text", "face_overlap_fraction_high")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('filter = "text_map"', 'filter = "colour"'), r"proofs\[0\]\.when\.num_glyphs: no such score"),
        (('name = "faces"\nkeep.num_faces', 'name = "anime"\nkeep.num_hits'), "also needs a filter 'faces'"),
    ],
)
def test_what_a_proof_about_the_face_lacks_is_named(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    text = FACE_AWARE.replace(*change)
    assert text != FACE_AWARE
    with pytest.raises(RecipeError, match=complaint):
        recipe_from(tmp_path, text)


def test_a_filter_that_cannot_stand_in_for_another_is_no_screen_of_its_joint_scores(tmp_path: Path) -> None:
    text = FACE_AWARE.replace('filter = "text_map"', 'filter = "colour"').replace(
        "when.num_glyphs", "when.hue_spread_deg"
    )
    with pytest.raises(RecipeError, match=r"when\.face_overlap_fraction: no such score"):
        recipe_from(tmp_path, text)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('filter = "colour"', 'filter = "color"'), r"screens\[0\]\.filter: no filter 'color'; did you mean 'colour'"),
        (("toning_side = 32", "toning = 32"), r"screens\[0\]\.measure\.toning: unknown key"),
        (("when.toning_residual = { max", "when.toning = { max"), r"proofs\[0\]\.when\.toning: no such score"),
        (("then.mean_channel_std = { max", "then.mean = { max"), r"proofs\[0\]\.then\.mean: no such score"),
        (("keep.mean_channel_std", "keep.chromatic_share"), r"proofs: none speaks of a score that 'colour' keeps by"),
    ],
)
def test_what_is_wrong_with_a_screen_is_named(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    text = RECIPE.replace(*change)
    assert text != RECIPE
    with pytest.raises(RecipeError, match=rf"recipe\.toml: (?s:.*){complaint}"):
        recipe_from(tmp_path, text)
