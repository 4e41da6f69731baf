"""In what recipes differ, by key and both values, and the options that lead back."""

import shlex

import pytest

from curation.recipe.differences import differences, options_back, recipe_options, told
from curation.recipe.overrides import overridden
from curation.recipe.recipe import load_recipe

LOOSER = ("filters.text.keep.text_prominence.max=0.8", "curate.measure=all", 'decode.formats=["jpg", "gif"]')


def words_of(options: str | None) -> list[str]:
    assert options is not None
    return [word for word in shlex.split(options) if "=" in word]


@pytest.mark.parametrize("changes", [(), LOOSER[:1], LOOSER])
def test_the_options_back_make_the_very_recipe(changes: tuple[str, ...]) -> None:
    before, now = load_recipe("demo", changes), load_recipe("demo")
    assert load_recipe("demo", words_of(options_back(before.resolved, now.resolved))).digest == before.digest
    assert load_recipe("demo", words_of(recipe_options(before.resolved))).digest == before.digest
    assert len(list(differences(before.resolved, now.resolved))) == len(changes)


def test_what_differs_is_told_by_key_and_both_values_and_a_few_are_enough() -> None:
    before, now = load_recipe("demo", LOOSER[:1]).resolved, load_recipe("demo").resolved
    assert told(list(differences(before, now))) == "filters.text.keep.text_prominence.max is 0.8 there and 0.52 here"
    many = told(list(differences(load_recipe("facecaptionhq-4m").resolved, now)))
    assert many.count(" there and ") == 3 and many.endswith("more differ")


def test_what_no_option_can_say_has_none_and_a_recipe_of_ones_own_goes_by_its_file() -> None:
    demo = load_recipe("demo").resolved
    assert options_back({key: value for key, value in demo.items() if key != "pack"}, demo) is None
    assert recipe_options({**demo, "name": "mine"}) == "--recipe mine.toml"
    assert "limits" not in recipe_options({**demo, "limits": {"file": "x.lock.toml"}}, but=("limits",))


@pytest.mark.parametrize("value", ["true", "1e5", "1234", "2026-11-30", "inf", "two words 😀\n", "\x7f", ["😀"], 1e16])
def test_a_value_comes_back_as_it_was_however_it_looks(value: object) -> None:
    demo = load_recipe("demo").resolved
    before = {**demo, "curate": {**demo["curate"], "device": value}}
    (word,) = words_of(options_back(before, demo))
    assert overridden({}, [word]) == {"curate": {"device": value}}


def test_a_recipe_of_ones_own_that_is_called_as_a_bundled_one_goes_by_its_file() -> None:
    demo = load_recipe("demo").resolved
    assert recipe_options({**demo, "filters": demo["filters"][:-1]}) == "--recipe demo.toml"
