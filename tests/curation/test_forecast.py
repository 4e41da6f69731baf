"""What a forecast says of rows, from evidence laid down by hand; `test_decide` holds it against what deciding does."""

from pathlib import Path
from typing import Any

from curation.evidence import IDENTITY, ledger_row
from curation.forecast import Forecast, forecast, opinion
from curation.judge import Verdict, judge
from curation.recipe import Recipe
from filters.colour import ColourEvidence
from filters.faces import FacesEvidence
from filters.text import TextEvidence
from filters.text_map import TextMapEvidence
from tests.curation.shards import recipe_from
from tests.curation.test_screens import word

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
keep.num_characters = { max = 10 }
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
WORD = TextMapEvidence(100, 100, (1,) * 20, (word(20, 20),))


def row_of(number: int, recipe: Recipe, **known: Any) -> dict[str, Any]:
    """Return a ledger's row of what is known of a picture, as the recipe judges it."""
    known = {plan.name: known.get(plan.name) for plan in recipe.measurers}
    verdict = judge(known, recipe.criteria)
    assert isinstance(verdict, Verdict)
    identity = {**dict.fromkeys(IDENTITY), "uid": f"{number:032x}", "key": str(number), "num_bytes": 1}
    return ledger_row({**identity, "num_captions": 0}, verdict, known, recipe)


def forecast_of(rows: list[dict[str, Any]], recipe: Recipe, *before: Recipe) -> Forecast:
    """Return the forecast over rows of which every column that both recipes have still holds."""
    names = frozenset(plan.name for plan in before[-1].measurers)
    return forecast("00000", [opinion(row, recipe, names, names) for row in rows], recipe, before, True)


def test_the_shadow_was_cut_short_in_the_turns_that_measuring_takes(tmp_path: Path) -> None:
    strict = recipe_from(tmp_path / "strict", TURNS % 12.0)
    loose = recipe_from(tmp_path / "loose", TURNS % 1.0 + "keep.num_faces = { min = 1 }")
    pale, nobody = ColourEvidence(5.0, 0.0, 0.0, 0.0), FacesEvidence(100, 100, ())
    cut: dict[str, Any] = {"colour": pale, "text_screen": WORD}
    full = {**cut, "faces": nobody, "text_screen_2": WORD, "text": TextEvidence(100, 100, (), ())}
    found = forecast_of([row_of(0, strict, **full), row_of(1, strict, **cut)], loose, strict)
    assert (found.num_undecided, found.shadow_hits, found.shadow_trials) == (1, 0, 1)
