from pathlib import Path

import pytest
import tomlkit

from curation.errors import RecipeError
from curation.recipe.overrides import as_toml
from curation.recipe.recipe import bundled_recipes, load_recipe


def test_a_value_that_is_set_is_the_recipes_own_in_its_digest_and_in_what_is_recorded() -> None:
    plain = load_recipe("demo")
    changed = load_recipe("demo", ["filters.text.keep.text_prominence.max=0.3", "pack.shuffle_seed=7", "name=mine"])
    assert (changed.name, changed.file.pack.shuffle_seed) == ("mine", 7)
    (text,) = [plan for plan in changed.resolved["filters"] if plan["name"] == "text"]
    assert text["keep"]["text_prominence"]["max"] == 0.3
    assert changed.digest != plain.digest
    assert load_recipe("demo", []).digest == plain.digest
    assert "pack.shuffle_seed=7" in changed.path


def test_a_table_that_is_not_there_is_made_and_lists_of_tables_go_by_name() -> None:
    changed = load_recipe(
        "facecaptionhq-4m",
        ["rank.top=5", "filters.text.screens.0.measure.side=640", "filters.text.screens.text.measure.canvas_side=320"],
    )
    assert changed.file.rank.top == 5
    first, *_, last = (screen.plan.measure.model_dump() for screen in changed.screens["text"])
    assert (first["side"], last["canvas_side"]) == (640, 320)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pack", "say KEY=VALUE"),
        ("=3", "say KEY=VALUE"),
        ("pack..seed=3", "say KEY=VALUE"),
        ("filters.txt.keep=3", "'txt' names no one table of "),
        ("filters.9.keep=3", "'9' names no one table of "),
        ("filters.text=3", "filters is a list"),
        ("name.of.it=3", "'of' stands in a value"),
        ("pack.shufle_seed=3", "pack.shufle_seed: unknown key; did you mean 'shuffle_seed'"),
        ("pack.shuffle_seed=many", "pack.shuffle_seed"),
    ],
)
def test_what_cannot_be_set_is_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe("demo", [override])
    assert message in str(error.value) and override in str(error.value)


@pytest.mark.parametrize("name", bundled_recipes())
def test_a_resolved_recipe_is_a_file_that_reads_as_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.toml"
    path.write_text(tomlkit.dumps(as_toml(load_recipe(name).resolved)))
    assert load_recipe(path).digest == load_recipe(name).digest
