from benchmarks.verdicts.crops import RULES, Rule, figures
from curation.recipe.recipe import load_recipe
from tests.benchmarks.test_sizes import LARGE, SMALL, drawn


def test_the_rule_called_the_recipes_is_the_recipes() -> None:
    plan = next(one for one in load_recipe("facecaptionhq-4m").filters if one.name == "anime")
    measure, score = plan.measure.model_dump(), plan.score.model_dump()
    assert RULES["recipe"] == Rule(measure["scale_factor"], score["min_neighbours"], score["min_neighbours_small"])


def test_photos_taken_for_drawn_are_named_with_their_source_and_the_hits_that_did_it() -> None:
    crops = [drawn("single", (LARGE, 13), (SMALL, 4)), drawn("single", (LARGE, 12)), drawn("anime", (SMALL, 5))]
    found = figures(RULES["recipe"], crops, {look.file: f"photo of {look.label}" for look in crops})
    assert [count[:2] for count in found["drawn"].values()] == [[1, 1], [1, 2]]
    assert found["drawings"] == {"photo of anime": [1, 1]}
    (wrong,) = found["drawn_but_photos"]
    assert (wrong["key"], wrong["source"]) == (crops[0].file, "photo of single")
    assert wrong["hits"] == [{"num_neighbours": 13, "side_fraction": 0.6, "line_to_nose": 4.0}]
    assert found["nearest"]["photo_windows"]["large"] == {"single": [13, 12]}
