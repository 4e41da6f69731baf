"""Solving for a number on ledgers of drawn evidence, held against what the recipe keeps where all is known."""

import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from curation.commands.decide.stage import foresee
from curation.commands.solve.limits import with_limits
from curation.commands.solve.recipe_file import write_recipe
from curation.commands.solve.stage import Solution, solve
from curation.commands.solve.text import tell, values
from curation.dataset.labels import Label, line_of
from curation.errors import UsageError
from curation.recipe.recipe import Recipe, load_recipe
from tests.curation.ledgers import kept_of, portraits, uid_of, write_curated
from tests.curation.shards import recipe_from

RECIPE = """
schema_version = 1
name = "portraits"  # a remark
[curate]
measure = "%s"
shadow_fraction = 0.25
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 0.7 }
keep.toning_residual = { min = 0.6 }
[[filters]]
name = "detail"
keep.spectral_fall_db = { min = 15, max = 28.0 }
keep.blockiness = { max = 1.3 }
[[filters]]
name = "look"
keep.num_set_bits = { min = 28, max = 36 }
"""
SEEN = portraits(600, seed=1)
WANTS = (12, 90, 170, 240, 360)
Run = tuple[Path, Recipe]


@pytest.fixture(scope="module", params=["all", "needed"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of which all evidence is there, and one that was cut short but for a quarter of what it rejected."""
    folder = tmp_path_factory.mktemp("solve")
    recipe = recipe_from(folder, RECIPE % request.param)
    write_curated(folder / "run" / "curate", recipe, SEEN, 200)
    return folder / "run", recipe


@pytest.fixture(scope="module")
def solutions(run: Run) -> list[Solution]:
    return [solve(run[0], want) for want in WANTS]


def test_the_wanted_number_is_kept_where_all_is_known_and_lies_in_the_interval_where_not(
    run: Run, solutions: list[Solution]
) -> None:
    for want, found in zip(WANTS, solutions, strict=True):
        (low, high), truth = found.kept.kept_interval, kept_of(found.recipe, SEEN)
        is_complete = run[1].file.curate.measure == "all"
        assert (truth == found.num_expected == want) if is_complete else (low <= truth <= high), want
        assert 0 <= found.num_expected - want <= 6  # a shadow sample stands for four rows
    forecast, found = foresee(run[0], solutions[-1].recipe), solutions[-1]
    assert (forecast.kept_interval, forecast.kept_expected) == (found.kept.kept_interval, found.num_expected)


def test_more_wanted_tightens_no_limit_and_counts_stay(solutions: list[Solution]) -> None:
    for tight, loose in pairwise(solutions):
        for one, other in zip(tight.limits, loose.limits, strict=True):
            assert (one.value - other.value) * one.limit.sign <= 0
    assert {solved.limit.score for solved in solutions[0].limits if solved.stays == "a count"} == {"num_set_bits"}


def test_the_recipe_s_own_number_is_the_recipe_itself(run: Run) -> None:
    found = solve(run[0], kept_of(run[1], SEEN))
    assert (found.level, found.recipe.resolved["filters"]) == (1.0, run[1].resolved["filters"])


def test_the_solution_is_a_recipe_s_file_that_keeps_its_remarks(
    run: Run, solutions: list[Solution], tmp_path: Path
) -> None:
    for number, named in enumerate((run[1].path, None)):
        path = tmp_path / f"{number}.toml"
        write_recipe(path, solutions[2], named)
        assert (load_recipe(path).digest, load_recipe(path).name) == (solutions[2].recipe.digest, "portraits-170")
        assert ("# a remark" in path.read_text()) == (named is not None)
        with pytest.raises(UsageError, match="there is a file of this name"):
            write_recipe(path, solutions[2], named)
    changed = tomllib.loads((tmp_path / "0.toml").read_text())
    assert changed["filters"][2] == tomllib.loads(Path(run[1].path).read_text())["filters"][2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.toml", "1.toml"]


def test_a_step_says_what_one_limit_alone_would_change(run: Run, solutions: list[Solution]) -> None:
    found = solutions[2]
    steps = [(s.limit, step) for s in found.limits for step in (s.tighter, s.looser) if step is not None]
    assert len(steps) == 14
    for limit, step in steps:
        truth = kept_of(with_limits(found.recipe, [replace(limit, value=step.value)]), SEEN)
        assert step.low <= truth <= step.high, limit.name
        if run[1].file.curate.measure == "all":
            assert truth == found.num_expected + step.num_more, limit.name


def test_one_score_is_as_high_or_as_low_as_the_number_allows(run: Run) -> None:
    found = solve(run[0], 70, aim=("toning_residual", "min"))
    assert kept_of(found.recipe, SEEN) == 70
    assert [solved.limit.name for solved in found.limits if solved.stays is None] == ["colour.toning_residual.min"]
    assert kept_of(solve(run[0], 70, aim=("blockiness", "max")).recipe, SEEN) == 70
    with pytest.raises(UsageError, match="no filter of the recipe has such a score"):
        solve(run[0], 70, aim=("face_side", "min"))


@pytest.mark.slow
def test_a_share_that_would_be_exceeded_stops_and_says_how_many_can_be_kept(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"more than 0.05 .* by detail; (\d+) can be kept") as caught:
        solve(run[0], 360, at_most={"detail": 0.05})
    number = int(str(caught.value).rpartition("; ")[2].split()[0])
    assert kept_of(run[1], SEEN) < number < 360
    assert 0 < solve(run[0], number - 1, at_most={"detail": 0.05}).leaks["detail"] <= 0.05
    labels = tmp_path / "labels.jsonl"
    words = ["group" if seen["colour"].mean_channel_std < 1 else "single" for seen in SEEN]  # type: ignore[attr-defined]
    given = [Label(uid_of(number), word, "r", "2026-01-01T00:00:00Z") for number, word in enumerate(words)]
    labels.write_text("".join(map(line_of, given)))
    assert solve(run[0], 70, at_most={"group": 0.5}, labels=labels).leaks["group"] < 0.5
    with pytest.raises(UsageError, match="out by group"):
        solve(run[0], 360, at_most={"group": 0.01}, labels=labels)
    with pytest.raises(UsageError, match="no score or filter"):
        solve(run[0], 360, at_most={"grouse": 0.01}, labels=labels)


def test_what_no_limits_give_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are kept where all limits that move are open"):
        solve(run[0], len(SEEN) + 1)
    changed = (RECIPE % "needed").replace('"colour"', '"colour"\nmeasure = { toning_side = 128 }')
    with pytest.raises(UsageError, match="rows that are kept now were not measured"):
        solve(run[0], 90, recipe_from(tmp_path, changed))


def test_the_solution_is_told_by_line_and_as_values(solutions: list[Solution]) -> None:
    told = tell(solutions[3])
    assert told.startswith("240 wanted of 600 seen")
    assert "colour.mean_channel_std.min" in told and "stays (a count)" in told
    assert values(solutions[3])["want"] == 240 and len(values(solutions[3])["limits"]) == 7
