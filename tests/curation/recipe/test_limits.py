"""Limits from a lock: they stand where keep ranges stand, say where they come from, and fit what was calibrated."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from curation.commands.review import whatif
from curation.commands.solve.limits import limits_of, with_limits
from curation.commands.solve.recipe_file import write_recipe
from curation.dataset.labelled import read_label_set
from curation.dataset.labels import Label, line_of
from curation.errors import RecipeError, UsageError, WeightsError
from curation.measure.filter_set import weights_of
from curation.recipe.judge import KeepRange
from curation.recipe.limits import LimitsLock, LockedLimit, measuring, read_lock
from curation.recipe.recipe import load_recipe, recipe_of
from curation.storage.publish import sha256_of
from tests.curation.shards import recipe_from

TEXT = """
schema_version = 1
name = "limited"
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
[[filters]]
name = "own_look"
filter = "look"
keep.num_set_bits = { min = 1, max = 63 }
"""


def lock(folder: Path, text: str = TEXT, **changes: object) -> Path:
    """Write a recipe, its labels, and a lock that was calibrated on it."""
    recipe = recipe_from(folder, text)
    (folder / "labels.jsonl").write_text(line_of(Label("ab" * 16, "single", "anna", "2026-01-01T00:00:00Z")))
    limits = [("colour", "mean_channel_std", {"min": 3.5}), ("own_look", "num_set_bits", {"max": 40.0})]
    values = {
        "labels_sha256": sha256_of(folder / "labels.jsonl"), "ledger_state": "cd" * 32, "recipe": recipe.name,
        "recipe_digest": recipe.digest, "date": "2026-01-02", "code_version": "0.3.0",
        "limits": [
            {"filter": name, "score": score, **end, "measured": measuring(recipe.filters, name, score), "weights": {},
             "evidence": {"precision": [0.95, 0.9, 0.97, 40.0], "reject": ['odd "name"\\', "ü"], "is_enough": True}}
            for name, score, end in limits
        ],
    }  # fmt: skip
    (folder / "thresholds.lock.toml").write_text(LimitsLock.model_validate({**values, **changes}).written())
    return folder / "thresholds.lock.toml"


def limited(folder: Path, line: str = 'limits = "thresholds.lock.toml"') -> Path:
    path = folder / "limited.toml"
    path.write_text(line + TEXT)
    return path


def test_a_lock_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = lock(tmp_path)
    read = read_lock(path)
    assert read.written() == path.read_text() and read.limits[0].evidence["reject"] == ['odd "name"\\', "ü"]
    assert read.limits[0].ends == {"min": 3.5} and read.limits[1].ends == {"max": 40.0}


def test_a_recipe_that_names_a_lock_has_its_limits_and_says_where_they_come_from(tmp_path: Path) -> None:
    path = lock(tmp_path)
    plain, recipe = load_recipe(tmp_path / "recipe.toml"), load_recipe(limited(tmp_path))
    assert recipe.filters[0].keep == {"mean_channel_std": KeepRange(min=3.5)}
    assert recipe.filters[1].keep == {"num_set_bits": KeepRange(min=1, max=40)}
    record = recipe.resolved["limits"]
    assert record["sha256"] == sha256_of(path) and record["labels_sha256"] == sha256_of(tmp_path / "labels.jsonl")
    assert recipe.digest != plain.digest and recipe.curate_digest != plain.curate_digest
    assert "limits" not in plain.resolved
    again = recipe_of(json.loads(json.dumps(recipe.resolved)), "a manifest")
    assert again.digest == recipe.digest, "what a manifest holds needs no lock any more"


def test_an_override_names_the_lock_from_here_and_has_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock(tmp_path / "locks")
    recipe_from(tmp_path / "recipes", TEXT)
    monkeypatch.chdir(tmp_path / "locks")
    changes = ["filters.colour.keep.mean_channel_std.min=9", "limits=thresholds.lock.toml"]
    recipe = load_recipe(tmp_path / "recipes" / "recipe.toml", changes)
    assert recipe.filters[0].keep["mean_channel_std"].min == 9 and recipe.filters[1].keep["num_set_bits"].max == 40


def test_a_record_claims_no_limit_that_somebody_changed(tmp_path: Path) -> None:
    lock(tmp_path)
    recipe = load_recipe(limited(tmp_path))
    record = recipe.resolved["limits"]
    assert record["limits"] == {"colour.mean_channel_std": {"min": 3.5}, "own_look.num_set_bits": {"max": 40.0}}
    by_hand = load_recipe(tmp_path / "limited.toml", ["filters.colour.keep.mean_channel_std.min=9"])
    by_review = whatif.changed(recipe.resolved, {"colour.mean_channel_std": {"min": 9.0, "max": None}}, "x")
    by_solve = with_limits(recipe, [replace(limits_of(recipe)[0], value=9.0)])
    for one in (by_hand, by_review, by_solve):
        assert one.resolved["limits"]["limits"] == {"own_look.num_set_bits": {"max": 40.0}}
    none = whatif.changed(by_review.resolved, {"own_look.num_set_bits": {"min": None, "max": 39.0}}, "x")
    assert "limits" not in none.resolved
    by_file = {**recipe.resolved, "limits": {**record, "limits": {"colour.mean_channel_std": {"min": 2.0}}}}
    unclaimed = {**recipe.resolved, "limits": {name: record[name] for name in record if name != "limits"}}
    for values, named in ((by_file, "colour.mean_channel_std was calibrated"), (unclaimed, "limits.limits")):
        with pytest.raises(RecipeError, match=re.escape(named)):
            recipe_of(values, "by hand")
    written = SimpleNamespace(recipe=by_solve)
    write_recipe(tmp_path / "solved.toml", written, str(tmp_path / "limited.toml"))  # type: ignore[arg-type]
    assert load_recipe(tmp_path / "solved.toml").digest == by_solve.digest


@pytest.mark.parametrize(
    ("line", "changed", "message"),
    [
        ('limits = "gone.toml"', "", "gone.toml: no such file of limits"),
        (
            'limits = { file = "thresholds.lock.toml", labels = "labels.jsonl" }',
            "labels",
            "made from other labels.*calibrate again; if only a takedown .* name the lock without `labels`",
        ),
        ('limits = { file = "thresholds.lock.toml", labels = "none.jsonl" }', "", "none.jsonl: no such labels"),
        ('limits = "thresholds.lock.toml"', "chroma_floor", r"calibrated on 'colour' as measured by"),
        ('limits = "thresholds.lock.toml"', "own_look", "a limit of 'own_look', which is no filter of this recipe"),
        ("limits = 3", "", "the path of a lock is wanted"),
    ],
)
def test_a_lock_that_does_not_fit_is_refused(tmp_path: Path, line: str, changed: str, message: str) -> None:
    lock(tmp_path)
    path = limited(tmp_path, line)
    if changed == "labels":
        with (tmp_path / "labels.jsonl").open("a") as file:
            file.write(line_of(Label("cd" * 16, "bw", "anna", "2026-01-03T00:00:00Z")))
    elif changed == "own_look":
        path.write_text(path.read_text().replace("own_look", "own_other"))
    elif changed:
        path.write_text(path.read_text().replace('"colour"', '"colour"\nmeasure = { chroma_floor = 11 }'))
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_limits_of_other_weights_are_refused_where_weights_are_looked_for(tmp_path: Path) -> None:
    recipe = recipe_from(tmp_path, TEXT)
    measured = measuring(recipe.filters, "colour", "mean_channel_std")
    one = LockedLimit(
        filter="colour", score="mean_channel_std", min=1, measured=measured, weights={"drawn_heads": "ef" * 32}
    )
    lock(tmp_path, limits=[one])
    drawn = '[[filters]]\nname = "drawn"\nkeep.drawn_logit = { max = 1 }\n'
    path = tmp_path / "limited.toml"
    path.write_text('limits = "thresholds.lock.toml"' + TEXT + drawn)
    with pytest.raises(WeightsError, match=r"thresholds\.lock\.toml were calibrated on weights `drawn_heads`|not here"):
        weights_of(load_recipe(path))


@pytest.mark.parametrize("name", ["drawn", "look2", "own-look"])
def test_a_filter_that_stands_twice_bears_a_name_of_ones_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="a name of your own is wanted, which begins with own_, such as own_look"):
        recipe_from(tmp_path, TEXT.replace("own_look", name))


def test_a_name_of_ones_own_is_told_and_no_other_recipe_changes(tmp_path: Path) -> None:
    recipe = recipe_from(tmp_path, TEXT)
    assert [stanza.get("filter") for stanza in recipe.resolved["filters"]] == [None, "look"]
    assert recipe_of(recipe.resolved, "a manifest").digest == recipe.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na,b\n", "no column 'sha256'"),
        ("file,label,sha256\n", "holds no label yet; `facecaptionhq review RUN`"),
        ("file,label,sha256\na,single," + "a" * 64 + "\nb,,abc\n", "line 3: label"),
        ("file,label,sha256\nc,single,\n", "line 2: label"),
    ],
)
def test_a_labelled_folder_that_says_too_little_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)):
        read_label_set(tmp_path / "manifest.csv")


def test_what_most_reviewers_say_counts_and_a_draw_says_nothing(tmp_path: Path) -> None:
    def label(uid: str, word: str, reviewer: str, probability: float) -> str:
        return line_of(Label(uid, word, reviewer, "2026-01-01T00:00:00Z", "near", probability))

    one, other = "a" * 32, "b" * 32
    lines = [label(one, "single", "anna", 0.5), label(one, "bw", "ben", 0.5), label(other, "bw", "anna", 0.1)]
    lines += [label(other, "bw", "ben", 0.2), label(other, "single", "cleo", 0.2)]
    (tmp_path / "labels.jsonl").write_text("".join(lines))
    labels = read_label_set(tmp_path / "labels.jsonl")
    assert [(picture.identity, picture.label, picture.weight) for picture in labels.pictures] == [(other, "bw", 5.0)]
    assert (labels.num_disputed, labels.column) == (1, "uid")
