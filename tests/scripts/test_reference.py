"""The reference pages are what the code says of itself, and what the code says is all that it does."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.commands.pack.dedup import SAME
from curation.commands.rank.gates import conditions
from curation.dataset.reasons import CURATE, FETCH, OF_STAGES, PACK, RANK
from curation.measure.meanings import meaning_of
from curation.recipe.filter_plan import filter_names
from curation.recipe.settings import GateSettings, RankSettings
from tests.places import ROOT

reference = importlib.import_module("scripts.reference")
PAGES = reference.pages()
FETCHING = ROOT / "curation" / "commands" / "fetch"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_script_writes(name: str) -> None:
    page = ROOT / "docs" / "reference" / name
    assert page.read_text() == PAGES[name], "run `python scripts/reference.py`"
    cells = [cell for line in PAGES[name].splitlines() if line.startswith("| ") for cell in line.split(" | ")]
    assert all(cell.strip("| ") or name == "scores.md" for cell in cells), "no cell is empty"


def test_there_is_a_page_for_each_and_none_besides() -> None:
    assert {path.name for path in (ROOT / "docs" / "reference").glob("*.md")} == set(PAGES)


@pytest.mark.parametrize("name", filter_names())
def test_every_score_has_a_meaning(name: str) -> None:
    module = importlib.import_module(f"filters.{name}")
    assert list(module.MEANINGS) == list(module.SCORES)
    for score in module.SCORES:
        for kind in ("low", "high", "not_finite"):
            assert meaning_of(name, f"{score}_{kind}")


def literals(folder: Path) -> Iterator[str]:
    """Yield every reason that a module of `fetch` spells out: what `RefusedError` and `reason=` are given."""
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                named = [word.value for word in node.keywords if word.arg == "reason"]
                first = node.args[:1] if getattr(node.func, "id", "") == "RefusedError" else []
                yield from (str(v.value) for v in (*named, *first) if isinstance(v, ast.Constant) and v.value)
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Tuple):
                for pair in node.value.elts:  # the table of exceptions
                    if isinstance(pair, ast.Tuple) and isinstance(pair.elts[-1], ast.Constant):
                        yield str(pair.elts[-1].value)


def test_every_reason_of_a_stage_has_a_meaning() -> None:
    spelled = {reason for reason in literals(FETCHING) if re.fullmatch(r"[a-z0-9_]+", reason)}
    assert len(spelled) > 15 and spelled <= FETCH.keys()
    gates = GateSettings(
        min_side_px=1, max_aspect=1, min_face_side_px=1, min_num_faces=1, max_num_faces=1, max_pwatermark=1
    )
    asked = conditions(RankSettings(gates=gates, key="face_side"), has_release=True, has_blocklist=True)
    assert {reason for _, reason in asked} <= RANK.keys() and len(asked) > 12
    assert set(SAME.values()) <= PACK.keys()
    prose = (ROOT / "docs" / "data-formats.md").read_text()
    listed = re.search(r"Reasons: (`no_image`.*?)\.\n", prose, re.DOTALL)
    assert listed and set(re.findall(r"`([a-z_]+)`", listed[1])) <= CURATE.keys()
    assert all(text and not text.endswith(".") for table in OF_STAGES.values() for text in table.values())
    assert meaning_of("fetch", "http_451") and not meaning_of("fetch", "<script>") and not meaning_of("nobody", "x_low")


def test_every_variable_of_ours_that_the_code_reads_is_told() -> None:
    folders = ("curation", "filters", "facemakeup")
    sources = [ROOT / "cli.py", *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    read = {name for path in sources for name in re.findall(r"FACECAPTIONHQ_[A-Z0-9]+\b", path.read_text())}
    told = {name for row in reference.ENVIRONMENT for name in row[0].split(", ")}
    assert read <= told and "FACECAPTIONHQ_MODELS" in read
