import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from curation.errors import RecipeError
from curation.measure.filter_set import measurement_keys
from curation.recipe.filter_plan import filter_names, is_filter
from curation.recipe.recipe import Recipe, bundled_recipes, load_recipe

SMALL = """
schema_version = 1
name = "small"
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
"""

FIRST_DIGEST = "32cc1d162427175d31ea1b7cd6c73c4df6e5e0f78bab3922a9e9758a05434161"
"""Digest of `SMALL` as the first release gave it."""


def load(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.toml"
    path.write_text(text)
    return load_recipe(path)


@pytest.mark.parametrize("name", bundled_recipes())
def test_every_bundled_recipe_loads_by_name(name: str) -> None:
    assert load_recipe(name).name == name


def test_the_published_recipe_has_the_five_steps_in_the_papers_order() -> None:
    recipe = load_recipe("facecaptionhq-4m")
    assert recipe.file.rank.top == 10_000_000
    assert [plan.name for plan in recipe.filters] == ["colour", "text", "faces", "anime", "drawn"]


def test_the_strict_recipe_judges_as_the_published_one_and_more() -> None:
    published, strict = load_recipe("facecaptionhq-4m"), load_recipe("facecaptionhq-strict")
    plans = {plan.name: plan for plan in strict.filters}
    for plan in published.filters:
        other = plans.pop(plan.name)
        assert (other.measure, other.score, other.screens) == (plan.measure, plan.score, plan.screens), plan.name
        assert dict(other.keep) | dict(plan.keep) == dict(other.keep), plan.name
    assert list(plans) == ["face_quality", "detail", "look"]
    assert strict.certain >= {"faces", "face_quality", "detail", "look"}


def test_the_filters_are_the_modules_that_define_scores() -> None:
    names = "anime colour detail drawn face_quality face_tone faces look taught text text_map"
    assert " ".join(filter_names()) == names
    assert all(map(is_filter, filter_names()))
    assert not any(map(is_filter, ("base", "weights", "detectors", "nothing", "detectors.craft", "", "a/b", "os")))


def test_a_recipe_loads_no_filter_that_it_does_not_name() -> None:
    code = (
        "import sys; from curation.recipe.recipe import load_recipe; load_recipe('demo'); "
        "print(*(n for n in ('face_tone', 'taught', 'detail', 'colour') if f'filters.{n}' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["colour"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("[[filters]]", "[[filter]]"), r"filter: unknown key; did you mean 'filters'\?"),
        (('name = "colour"', 'name = "color"'), r"filters\[0\]\.name: no filter 'color'; did you mean 'colour'\?"),
        (("mean_channel_std", "mean_std"), r"filters\[0\]\.keep\.mean_std: no such score.*mean_channel_std"),
        (("min = 2.0", "least = 2.0"), r"filters\.0\.keep\.mean_channel_std\.least: unknown key.*min, max"),
        (("min = 2.0", "min = 2.0, max = 1.0"), r"filters\.0\.keep\.mean_channel_std.*nothing could stay"),
        (("schema_version = 1", "schema_version = 2"), "schema_version: .*less than or equal to 1"),
        (('name = "small"', "name = 3"), "name: .*valid string"),
        (
            ('name = "colour"', 'name = "colour"\nmeasure = { chroma = 3 }'),
            r"measure\.chroma: unknown key.*chroma_floor",
        ),
        (('name = "colour"', 'name = "colour"\nmeasure = { chroma_floor = 999 }'), r"measure\.chroma_floor"),
        (('name = "colour"', 'name = "colour"\njoint.x = {}'), r"joint\.x: unknown; nothing can stand here"),
        (("[[filters]]", "[curate]\norder = ['text']\n[[filters]]"), r"curate\.order \['text'\] must name each"),
        (
            ("[[filters]]", "[curate]\nworkers = 3\n[[filters]]"),
            r"curate\.workers: unknown key; .*the choices are measure",
        ),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named_with_file_key_and_choices(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    text = SMALL.replace(*change)
    assert text != SMALL
    with pytest.raises(RecipeError, match=rf"recipe\.toml: (?s:.*){complaint}"):
        load(tmp_path, text)


def test_a_joint_score_needs_both_its_filters(tmp_path: Path) -> None:
    stanza = '[[filters]]\nname = "anime"\nkeep.num_uncontested_hits = { max = 0 }\n'
    with pytest.raises(RecipeError, match=r"num_uncontested_hits also needs a filter 'faces'"):
        load(tmp_path, SMALL + stanza)


def test_a_filter_stands_only_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a name stands twice"):
        load(tmp_path, SMALL + '[[filters]]\nname = "colour"\n')


def test_a_file_that_is_not_there_lists_the_bundled_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no such recipe; give a TOML file or one of .*facecaptionhq-4m"):
        load_recipe("facecaptionhq-5m")
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "facecaptionhq-4m")


def test_broken_toml_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.toml: not valid TOML: Invalid value"):
        load(tmp_path, "name =")


def test_a_key_that_came_later_changes_no_digest_until_it_says_something_else(tmp_path: Path) -> None:
    small = f"{SMALL}\n[pack]\nnum_shard_samples = 1000\n"  # what it was by default
    assert load(tmp_path, small).digest == FIRST_DIGEST
    for table, key, other in (("fetch", "content_usage", '"off"'), ("curate", "reservations", '"ignore"')):
        usual = getattr(load(tmp_path, small).file, table)
        said = small.replace("[[filters]]", f'[{table}]\n{key} = "{getattr(usual, key)}"\n[[filters]]')
        assert load(tmp_path, said).digest == FIRST_DIGEST
        changed = small.replace("[[filters]]", f"[{table}]\n{key} = {other}\n[[filters]]")
        assert load(tmp_path, changed).digest != FIRST_DIGEST


def test_a_filter_s_parameter_that_came_later_changes_no_digest_and_no_key_until_it_says_something_else(
    tmp_path: Path,
) -> None:
    assert 'name = "colour"\n' in SMALL
    for value, is_same in (("picture", True), ("portrait", False)):
        said = SMALL.replace('name = "colour"\n', f'name = "colour"\nmeasure = {{ toning_of = "{value}" }}\n')
        recipe, usual = load(tmp_path, said), load(tmp_path, SMALL)
        assert (recipe.curate_digest == usual.curate_digest) is is_same
        assert (measurement_keys(recipe, {}) == measurement_keys(usual, {})) is is_same


def test_order_and_device_are_outside_the_digest_and_thresholds_inside(tmp_path: Path) -> None:
    plain = load(tmp_path, SMALL)
    other_cost = load(
        tmp_path, SMALL.replace("[[filters]]", '[curate]\ndevice = "cuda:0"\norder = ["colour"]\n[[filters]]')
    )
    other_verdict = load(tmp_path, SMALL.replace("2.0", "3.0"))
    all_measured = load(tmp_path, SMALL.replace("[[filters]]", '[curate]\nmeasure = "all"\n[[filters]]'))
    assert plain.digest == other_cost.digest
    assert len({plain.digest, other_verdict.digest, all_measured.digest}) == 3


def test_a_new_shard_size_changes_the_recipe_but_not_what_curate_depends_on(tmp_path: Path) -> None:
    plain, packed = load(tmp_path, SMALL), load(tmp_path, SMALL + "[pack]\nnum_shard_samples = 7\n")
    assert plain.digest != packed.digest
    assert plain.curate_digest == packed.curate_digest


def test_a_recipe_travels_to_a_worker_unchanged(tmp_path: Path) -> None:
    recipe = load_recipe("demo")
    arrived = pickle.loads(pickle.dumps(recipe))
    assert (arrived.digest, arrived.order, arrived.path) == (recipe.digest, recipe.order, recipe.path)


def test_of_a_recipe_with_several_faults_each_is_a_line_of_its_own_whatever_stands_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL.replace('name = "small"', 'name = "small"\nspeed = 3\n"two\\nlines" = 4')
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text)
    assert len(caught.value.args) == 2 and pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
    assert cli._refuse(caught.value) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "speed: unknown key" in first and "two\\nlines: unknown key" in second
