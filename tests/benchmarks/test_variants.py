import pytest

from benchmarks.variants import SAME_EVIDENCE, plain, variant
from curation.errors import RecipeError, UsageError
from curation.recipe.recipe import load_recipe

NAME = "facecaptionhq-4m"


def test_a_name_alone_is_the_recipe_itself() -> None:
    assert variant(NAME).digest == load_recipe(NAME).digest


def test_changes_reach_filters_and_tables() -> None:
    recipe = variant(
        f'{NAME};faces.measure.side=320;text.keep.area_fraction.max=0.2;curate.order=["text","colour","faces","anime","drawn"]'
    )
    by_name = {plan.name: plan for plan in recipe.filters}
    assert by_name["faces"].measure.model_dump()["side"] == 320
    assert by_name["faces"].measure.model_dump()["weights"] == "yolov5n-0.5-face"
    assert by_name["text"].keep["area_fraction"].max == 0.2
    screens = ("text_screen", "text_screen_2", "text_screen_3")
    assert recipe.order == (*screens, "text", "colour_screen", "colour", "faces", "anime", "drawn")
    assert variant(f"{NAME};decode.max_aspect=5.0").file.decode.max_aspect == 5.0


def test_the_plain_recipe_has_the_same_filters_and_no_screens() -> None:
    recipe = load_recipe(NAME)
    without = plain(recipe)
    assert [(p.name, p.measure, p.score, p.keep) for p in without.filters] == [
        (p.name, p.measure, p.score, p.keep) for p in recipe.filters
    ]
    assert all("screens" not in stanza for stanza in without.file.model_dump(exclude_unset=True)["filters"])
    assert set(without.order) == {plan.name for plan in recipe.filters}


def test_a_filter_that_is_taken_away_takes_its_screens_and_leaves_the_others() -> None:
    recipe = load_recipe(NAME)
    without = variant(f"{NAME};-text")
    assert [plan.name for plan in without.filters] == [plan.name for plan in recipe.filters if plan.name != "text"]
    assert not any(step.startswith("text") for step in without.order)
    assert variant(f"{NAME};-drawn").order == tuple(step for step in recipe.order if step != "drawn")
    with pytest.raises(UsageError, match="no filter 'tekst'"):
        variant(f"{NAME};-tekst")


def test_the_same_evidence_keeps_every_keep_range() -> None:
    changed, recipe = variant(";".join((NAME, *SAME_EVIDENCE))), load_recipe(NAME)
    assert [plan.keep for plan in changed.filters] == [plan.keep for plan in recipe.filters]
    assert changed.order == ("colour", "faces", "drawn", "anime", "text")


def test_bfloat16_takes_text_and_its_screens_along_and_nothing_else() -> None:
    changed, recipe = variant(f"{NAME};bfloat16"), load_recipe(NAME)
    text = next(plan for plan in changed.filters if plan.name == "text")
    for plan in (text, *(screen.plan for screen in text.screens)):
        assert plan.measure.model_dump()["dtype"] == "bfloat16"
    others = [[plan for plan in one.filters if plan.name != "text"] for one in (changed, recipe)]
    assert [plan.measure for plan in others[0]] == [plan.measure for plan in others[1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [("text.measure.canvas_side", "looks like"), ("side=3", "looks like"), ("faces.measure.side=32O", "no TOML value")],
)
def test_a_change_of_another_form_is_named(change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        variant(f"{NAME};{change}")


def test_a_change_that_no_recipe_takes_is_named() -> None:
    with pytest.raises(RecipeError, match=r"with faces\.measure\.sides=320.*unknown key"):
        variant(f"{NAME};faces.measure.sides=320")
