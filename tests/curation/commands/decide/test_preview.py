"""What a forecast says of rows, from evidence laid down by hand; `test_decide` holds it against what deciding does."""

from pathlib import Path
from typing import Any

from curation.commands.decide.preview import Preview, add, opinion, preview_of
from curation.measure.columns import IDENTITY, ledger_row
from curation.recipe.judge import Verdict, judge
from curation.recipe.recipe import Recipe
from filters.colour import ColourEvidence
from filters.faces import FacesEvidence
from filters.text import TextEvidence
from filters.text_map import TextMapEvidence
from tests.curation.recipe.test_screens import word
from tests.curation.shards import recipe_from

TURNS = """
schema_version = 1
name = "turns"
[curate]
order = ["faces", "text_screen", "colour", "text_screen_2", "text"]
shadow_fraction = 1.0
[[filters]]
name = "colour"
keep.mean_channel_std = { min = %s }
[[filters]]
name = "text"
keep.num_characters = { max = %s }
[[filters.screens]]
filter = "text_map"
[[filters.screens.proofs]]
when.num_glyphs = { max = 0 }
then.num_characters = { max = 10 }
[[filters.screens]]
filter = "text_map"
[[filters.screens.proofs]]
when.face_overlap_fraction = { max = 0.01 }
then.num_characters = { max = 10 }
[[filters]]
name = "faces"
"""
"""What the first screen leaves in doubt asks for the faces, whose turn is over then: `colour` has its own before."""
PALE, BRIGHT = (ColourEvidence(std, 0.0, 0.0, 0.0) for std in (5.0, 20.0))
NOBODY, NO_TEXT = FacesEvidence(100, 100, ()), TextEvidence(100, 100, (), ())
BLANK = TextMapEvidence(100, 100, (1,) * 20, ())
WORD = TextMapEvidence(100, 100, (1,) * 20, (word(20, 20),))


def row_of(number: int, recipe: Recipe, **known: Any) -> dict[str, Any]:
    """Return a ledger's row of what is known of a picture, as the recipe judges it."""
    known = {plan.name: known.get(plan.name) for plan in recipe.measurers}
    verdict = judge(known, recipe.criteria)
    assert isinstance(verdict, Verdict)
    identity = {**dict.fromkeys(IDENTITY), "uid": f"{number:032x}", "key": str(number), "num_bytes": 1}
    return ledger_row({**identity, "num_captions": 0}, verdict, known, recipe)


def forecast_of(rows: list[dict[str, Any]], recipe: Recipe, *before: Recipe) -> Preview:
    """Return the forecast over rows of which every column that both recipes have still holds."""
    names = frozenset(plan.name for plan in before[-1].measurers)
    return preview_of("00000", [opinion(row, recipe, names, names) for row in rows], recipe, before, True)


def test_the_shadow_was_cut_short_in_the_turns_that_measuring_takes(tmp_path: Path) -> None:
    strict = recipe_from(tmp_path / "strict", TURNS % (12.0, 10))
    loose = recipe_from(tmp_path / "loose", TURNS % (1.0, 10) + "keep.num_faces = { min = 1 }")
    cut: dict[str, Any] = {"colour": PALE, "text_screen": WORD}
    full = {**cut, "faces": NOBODY, "text_screen_2": WORD, "text": NO_TEXT}
    found = forecast_of([row_of(0, strict, **full), row_of(1, strict, **cut)], loose, strict)
    assert (found.num_undecided, found.shadow_hits, found.shadow_trials) == (1, 0, 1)


def test_the_shadow_speaks_only_for_those_that_are_rejected_now(tmp_path: Path) -> None:
    before = recipe_from(tmp_path / "before", TURNS % (12.0, 10))
    other = recipe_from(tmp_path / "other", TURNS % (1.0, 5))
    proven: dict[str, Any] = {"colour": BRIGHT, "text_screen": BLANK}
    full = {"colour": PALE, "text_screen": BLANK, "faces": NOBODY, "text_screen_2": BLANK, "text": NO_TEXT}
    rows = [row_of(i, before, **proven) for i in range(10)] + [row_of(i, before, **full) for i in range(10, 20)]
    found = forecast_of(rows, other, before)
    assert (found.num_kept, found.num_undecided, found.num_undecided_kept) == (10, 10, 10)
    assert (found.shadow_hits, found.shadow_trials) == (10, 10)
    assert found.kept_interval == (10, 20) and found.kept_expected is None
    assert add([found, found]).kept_interval == (20, 40)


def test_of_those_rejected_now_the_shadow_tells_what_share_would_be_kept(tmp_path: Path) -> None:
    before, other = (recipe_from(tmp_path / str(limit), TURNS % (limit, 10)) for limit in (12.0, 1.0))
    cut: dict[str, Any] = {"colour": PALE, "text_screen": WORD}
    full = {**cut, "faces": NOBODY, "text_screen_2": WORD, "text": NO_TEXT}
    rows = [row_of(i, before, **cut) for i in range(10)] + [row_of(i, before, **full) for i in range(10, 20)]
    found = forecast_of(rows, other, before)
    assert (found.num_kept, found.num_undecided, found.num_undecided_kept) == (10, 10, 0)
    low, high = found.kept_interval
    assert 10 < low < high == found.kept_expected == 20


def test_what_deciding_dropped_since_its_column_no_longer_held_is_not_taken_for_known(tmp_path: Path) -> None:
    first = recipe_from(tmp_path / "first", TURNS % (12.0, 10))
    renewed = 'filter = "text_map"\nmeasure = { side = 640 }\n'
    texts = [(TURNS % (limit, 10)).replace('filter = "text_map"\n', renewed) for limit in (12.0, 1.0)]
    second, loose = (recipe_from(tmp_path / str(i), text) for i, text in enumerate(texts))
    full = {"colour": PALE, "text_screen": BLANK, "faces": NOBODY, "text": NO_TEXT}
    rows = [row_of(0, second, **full), row_of(1, second, colour=PALE)]
    assert forecast_of(rows, loose, first, second).shadow_trials == 1
    rows = [row_of(0, second, **full), row_of(1, second, colour=PALE, text_screen=BLANK)]
    found = forecast_of(rows, loose, second, second)
    assert (found.shadow_trials, found.num_undecided) == (0, 0)
