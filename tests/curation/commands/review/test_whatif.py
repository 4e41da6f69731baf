from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.review.folder import CuratedShard, Reviewed, open_curated
from curation.commands.review.gallery import Query, page, uids_of
from curation.commands.review.table import RowTable, read_table
from curation.commands.review.whatif import Limits, Outcome, changed, count
from curation.commands.review.written import write_recipe
from curation.dataset.ledger import write_ledger
from curation.dataset.manifest import read_manifest
from curation.errors import RecipeError, UsageError
from curation.measure.columns import known_of, ledger_schema
from curation.recipe.judge import NotYet, Verdict, judge
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.runner import Spread
from filters.detectors.base import Face
from filters.faces import FacesEvidence
from filters.text import TextEvidence
from tests.curation.commands.decide.test_preview import BLANK, BRIGHT, NO_TEXT, NOBODY, PALE, TURNS, WORD, row_of
from tests.curation.recipe.test_screens import RECIPE
from tests.curation.shards import mixed_source, recipe_from

ALONE = Spread(num_workers=0)
JOINT = TURNS.replace("keep.num_characters", "keep.face_overlap_fraction = { max = 0.05 }\nkeep.num_characters")


def expected(rows: list[dict[str, Any]], before: Recipe, after: Recipe) -> dict[str, list[str]]:
    """Return who changes sides, stays, or is undecided, as the judge has it."""
    sides: dict[str, list[str]] = {"enter": [], "leave": [], "undecided": [], "stay": []}
    judged = {None, *(plan.name for plan in before.filters)}
    for row in (row for row in rows if row["rejected_by"] in judged):
        verdict = judge(known_of(row, after), after.criteria)
        if isinstance(verdict, NotYet):
            sides["undecided"].append(row["uid"])
        elif verdict.kept or row["kept"]:
            side = "enter" if not row["kept"] else "stay" if verdict.kept else "leave"
            sides[side].append(row["uid"])
    return {side: sorted(uids) for side, uids in sides.items()}


def found(table: RowTable, recipe: Recipe) -> dict[str, list[str]]:
    sides = ("enter", "leave", "undecided", "stay")
    return {side: sorted(uids_of(table, Query.model_validate({"side": side}), recipe, [])) for side in sides}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("what-if")
    text = RECIPE.replace("shadow_fraction = 0.0", 'measure = "all"')
    curate(mixed_source(folder / "run" / "fetch"), folder / "run" / "curate", recipe_from(folder, text), ALONE)
    return folder / "run"


def test_of_a_run_with_screens_it_says_of_everybody_what_the_judge_says(run: Path) -> None:
    reviewed = open_curated(run, run / "fetch")
    table, before = read_table(reviewed), reviewed.recipe
    rows = [row for shard in reviewed.shards for row in pq.read_table(shard.ledger).to_pylist()]
    unique = list({row["uid"]: row for row in reversed(rows)}.values())
    for low, residual in product((None, 0.5, 2.0, 5.0, 49.0, 1e6), (None, 30.0, 41.0)):
        limits: Limits = {
            "colour.mean_channel_std": None if low is None else {"min": low},
            "colour.toning_residual": None if residual is None else {"max": residual},
        }
        after = changed(before.resolved, limits, "test")
        assert found(table, after) == expected(unique, before, after), limits
        values = Outcome(after, count(table, after)).values
        assert values["num_kept"] == sum(isinstance(v, Verdict) and v.kept for v in verdicts(rows, before, after))


def verdicts(rows: list[dict[str, Any]], before: Recipe, after: Recipe) -> list[Verdict | NotYet]:
    judged = {None, *(plan.name for plan in before.filters)}
    return [judge(known_of(row, after), after.criteria) for row in rows if row["rejected_by"] in judged]


LINE = (0.0, 0.0, 60.0, 0.0, 60.0, 9.0, 0.0, 9.0)
FACE = Face(10.0, 5.0, 50.0, 60.0, 0.9, (0.0,) * 10)
SEEN = {
    "colour": (None, PALE, BRIGHT, replace(BRIGHT, mean_channel_std=float("nan"))),
    "text_screen": (None, BLANK, WORD),
    "text_screen_2": (None, BLANK, WORD),
    "text": (None, NO_TEXT, TextEvidence(100, 100, (LINE,), (9,))),
    "faces": (None, NOBODY, FacesEvidence(100, 100, (FACE,))),
}


def test_whatever_was_measured_and_whatever_the_limits_it_agrees_with_the_judge(tmp_path: Path) -> None:
    recipe = recipe_from(tmp_path, JOINT % (12.0, 10))
    seen = [dict(zip(SEEN, known, strict=True)) for known in product(*SEEN.values())]
    certain = [known for known in seen if isinstance(judge(known, recipe.criteria), Verdict)]
    rows = [row_of(number, recipe, **known) for number, known in enumerate(certain)]
    write_ledger(tmp_path / "00000.parquet", rows, ledger_schema(recipe), {})
    shard = CuratedShard("00000", tmp_path / "00000.parquet", tmp_path / "00000.tar", None)
    table = read_table(Reviewed(tmp_path, None, recipe, (shard,)))  # type: ignore[arg-type]
    for characters, overlap, std in ((10, 0.05, 12.0), (0, 0.0, 6.0), (8, 1.0, 1.0), (9, 0.2, 30.0), (40, 0.05, 5.0)):
        limits: Limits = {
            "text.num_characters": {"max": characters},
            "text.face_overlap_fraction": {"max": overlap},
            "colour.mean_channel_std": {"min": std},
            "faces.num_faces": {"max": 0},
        }
        for asked in (limits, dict(list(limits.items())[:2]), {**limits, "text.num_characters": None}):
            after = changed(recipe.resolved, asked, "test")
            assert found(table, after) == expected(rows, recipe, after), asked


def test_a_recipe_that_is_written_decides_as_the_sliders_said(run: Path, tmp_path: Path) -> None:
    reviewed = open_curated(run)
    table, limits = read_table(reviewed), {"colour.mean_channel_std": {"min": 49.5}}
    path = write_recipe(tmp_path, "bolder", reviewed.recipe, limits)
    said = Outcome(loaded := load_recipe(path), count(table, loaded)).values
    assert said["num_undecided"] == 0 < said["num_leave"]
    assert path.read_text().startswith("# Written by `facecaptionhq review` from screened, with other limits:\n")
    assert "#   colour.mean_channel_std: min 2.0 -> min 49.5\n" in path.read_text()
    decide(run, loaded, ALONE)
    assert read_manifest(run / "curate").num_kept == said["num_kept"]
    moved = changed(recipe := load_recipe("facecaptionhq-4m").resolved, {"text.text_prominence": {"max": 0.4}}, "test")
    assert [list(one["keep"]) for one in moved.resolved["filters"]] == [list(one["keep"]) for one in recipe["filters"]]
    with pytest.raises(UsageError, match="another name"):
        write_recipe(tmp_path, "bolder", reviewed.recipe, limits)
    for name, wrong in (("../x", limits), ("x", {"colour.nothing": {"min": 1.0}}), ("x", {"nobody.x": None})):
        with pytest.raises(UsageError):
            write_recipe(tmp_path, name, reviewed.recipe, wrong)
    with pytest.raises(RecipeError, match="nothing could stay"):
        changed(reviewed.recipe.resolved, {"colour.mean_channel_std": {"min": 3.0, "max": 2.0}}, "test")


def test_a_gallery_sorts_filters_and_pages(run: Path) -> None:
    reviewed = open_curated(run)
    table = read_table(reviewed)
    score = "colour.mean_channel_std"
    everything = page(table, Query(sort=score, descending=True, num=200), reviewed.recipe, [])
    scores = [item["score"] for item in everything["items"] if item["score"] is not None]
    assert scores == sorted(scores, reverse=True) and everything["total"] == len(everything["items"]) == 21
    middle = {"min": scores[-4], "max": scores[3]}
    some = page(table, Query.model_validate({"ranges": {score: middle}, "num": 2, "first": 2}), reviewed.recipe, [])
    assert (some["total"], len(some["items"])) == (sum(middle["min"] <= s <= middle["max"] for s in scores), 2)
    uid = everything["items"][0]["uid"]
    labelled = [(uid, "single")]
    assert uids_of(table, Query(label="*"), reviewed.recipe, labelled) == [uid]
    assert len(uids_of(table, Query(label="-"), reviewed.recipe, labelled)) == 20
    assert uids_of(table, Query(label="group"), reviewed.recipe, labelled) == []
    assert uids_of(table, Query(rejected_by="unreadable", uids=(uid,)), reviewed.recipe, []) == []
    with pytest.raises(UsageError, match=r"did you mean 'colour\.mean_channel_std'"):
        page(table, Query(sort="colour.mean_chanel_std"), reviewed.recipe, [])
