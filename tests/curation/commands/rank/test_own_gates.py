"""Gates of other distributions: what they ask is held against the columns before a row is read."""

from pathlib import Path

import duckdb
import pytest

from curation.commands.rank.own_gates import own_rules, told_of
from curation.commands.rank.stage import Safeguards, rank
from curation.errors import UsageError
from curation.recipe.settings import GateSettings, RankSettings
from filters.plugins import GATES, PluginError
from tests.curation.shards import recipe_from
from tests.curation.whole_run import write_metadata
from tests.distributions import bring

RECIPE = """
schema_version = 1
name = "gated"
[rank.gates.own.%s]
%s
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
"""
MODULE = """
def asks(table):
    return [(table["sql"], table.get("reason", "so"))]

def says_nothing(table):
    return [3]

def yields(table):
    yield table["sql"], "so"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "gates_of_ours.py").write_text(MODULE)
    bring(
        tmp_path,
        "gates",
        f"[{GATES}]\nasks = gates_of_ours:asks\nempty = gates_of_ours:says_nothing\nyields = gates_of_ours:yields\n",
    )
    return tmp_path


def ranked(folder: Path, gate: str, table: str, name: str = "out") -> dict[str, int]:
    """Return how many of six images were left out, by reason."""
    recipe = recipe_from(folder, RECIPE % (gate, table))
    sources = write_metadata(folder, 3)
    return dict(rank(*sources, folder / name, recipe, Safeguards(waiver="drawn")).rejected.get("rank", {}))


def test_what_a_condition_holds_for_is_left_out_under_the_gates_name(folder: Path) -> None:
    assert ranked(folder, "asks", "sql = \"caption LIKE '%000001'\"") == {"own_asks_so": 1}
    assert ranked(folder, "asks", 'sql = "NULL"', "another") == {}


@pytest.mark.parametrize(
    "sql",
    [
        "no_such_column > 3",
        "width >",
        "1); DROP TABLE joined; --",
        "rank_key > 3",
        "count(*) > 5",
        "row_number() OVER () > 5",
    ],
)
def test_what_is_no_condition_over_a_joined_image_is_refused_before_anything_is_written(folder: Path, sql: str) -> None:
    with pytest.raises(PluginError, match=r"entry point asks .* of gates 1\.0 asks .*no condition over a joined image"):
        ranked(folder, "asks", f'sql = "{sql}"')
    assert not (folder / "out" / "manifest.json").exists()


def test_conditions_are_held_before_a_table_is_read(folder: Path) -> None:
    recipe = recipe_from(folder, RECIPE % ("asks", 'sql = "no_such_column > 3"'))
    faces, laion = write_metadata(folder, 3)
    laion.write_bytes(b"no table")
    with pytest.raises(PluginError, match="no condition over a joined image"):
        rank(faces, laion, folder / "out", recipe, Safeguards(waiver="drawn"))


def test_a_condition_that_fails_on_a_row_is_told_with_its_gate(folder: Path) -> None:
    with pytest.raises(PluginError, match=r"entry point asks .*: a condition cannot be asked of a row: .*Conversion"):
        ranked(folder, "asks", 'sql = "caption::INTEGER > 3"')


@pytest.mark.parametrize(
    ("gate", "table", "said"),
    [
        (
            "owl",
            "",
            "own.owl: no installed distribution brings a gate of this name; there are: asks, empty, yields",
        ),
        ("empty", "", "gives no pairs of a condition and a reason"),
        ("asks", 'sql = "TRUE"\nreason = "So It Is"', "gives the reason 'So It Is'"),
        ("asks", "", "cannot be built: KeyError"),
        ("yields", "", "entry point yields .*cannot be built: KeyError"),
        ("Asks-2", "", "no name of a gate"),
    ],
)
def test_a_gate_that_is_none_is_told_by_its_name(folder: Path, gate: str, table: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        ranked(folder, gate, table)


def test_a_recipe_without_such_gates_asks_nobody_and_is_known_as_before_there_were_any() -> None:
    assert own_rules({}) == () and "own" not in RankSettings().model_dump(mode="json")["gates"]
    asks = GateSettings(own={"asks": {}})
    assert RankSettings(gates=asks).model_dump(mode="json")["gates"]["own"] == {"asks": {}}


def test_the_order_of_gates_is_part_of_the_selection(folder: Path) -> None:
    both = "sql = 'width > 1'\n[rank.gates.own.yields]\nsql = 'width > 1'"
    assert ranked(folder, "asks", both) == {"own_asks_so": 6}
    with pytest.raises(UsageError, match="other work"):
        ranked(folder, "yields", both.replace("yields", "asks"))


def test_what_the_machine_lacks_is_no_gates_fault(folder: Path) -> None:
    (rule,) = own_rules({"asks": {"sql": "TRUE"}})
    with pytest.raises(duckdb.IOException), told_of([rule]):
        raise duckdb.IOException("no space left")
    with pytest.raises(PluginError), told_of([rule]):
        raise duckdb.ConversionException("no number")
