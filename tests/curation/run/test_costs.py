import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.curate.stage import curate
from curation.commands.report.contents import read_report, report_values
from curation.dataset.manifest import read_manifest
from curation.run.costs import costs, profile, total
from curation.run.runner import Spread
from curation.sandbox.parent import CELL
from tests.curation.commands.report.run import write_run
from tests.curation.shards import mixed_source, recipe_from


def test_costs_add_up_over_shards_and_the_dearest_step_comes_first() -> None:
    first = profile([{"decode": 1.0, "text": 6.0}, {"decode": 1.0}], 0.5, 2)
    second = profile([{"decode": 0.5}], 1.0, 1)
    assert first == {"decode": [2, 2.0], "text": [1, 6.0], "other": [2, 0.5]}
    found = {cost.step: (cost.num_pictures, cost.cpu_seconds, cost.fraction) for cost in total([first, second])}
    assert found == {"text": (1, 6.0, 0.6), "decode": (3, 2.5, 0.25), "other": (3, 1.5, 0.15)}
    assert next(iter(found)) == "text"
    assert total([first])[0].ms_per_picture == 6000.0


@pytest.mark.parametrize("isolate", [True, False])
def test_every_done_record_says_how_many_pictures_each_step_saw_and_what_it_cost(tmp_path: Path, isolate: bool) -> None:
    source = mixed_source(tmp_path / "in", num_shards=2)
    CELL.close()
    recipe = recipe_from(tmp_path, f"{RECIPE}[curate]\nisolate = {str(isolate).lower()}\n")
    manifest = curate(source, tmp_path / "out", recipe, Spread(num_workers=0))
    found = {cost.step: cost for cost in costs(tmp_path / "out", manifest)}
    numbers = {step: cost.num_pictures for step, cost in found.items()}
    in_cell = {"cell": 14, "load": 1} if isolate else {}
    assert numbers == {"decode": 14, "colour": 12, "judge": 14, "other": 16, **in_cell}
    assert all(cost.cpu_seconds > 0 for cost in found.values())
    assert sum(cost.fraction for cost in found.values()) == pytest.approx(1)


STEPS = {"decode", "colour", "judge", "cell", "other"}
RECIPE = """
schema_version = 1
name = "profiled"
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
"""


def test_the_report_says_where_the_time_went(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    values = report_values(read_report(tmp_path / "run"))
    assert {one["step"] for one in values["costs"]} - {"load"} == STEPS
    assert costs(tmp_path / "run" / "pack", read_manifest(tmp_path / "run" / "pack")) == ()


def test_profile_shows_the_costs_beside_the_result(tmp_path: Path) -> None:
    mixed_source(tmp_path / "in", num_shards=1)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    command = ["curate", str(tmp_path / "in"), str(tmp_path / "out"), "--recipe", str(tmp_path / "recipe.toml")]
    result = CliRunner().invoke(app, [*command, "--workers", "0", "--profile", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["num_seen"] == 8
    steps = [line.split()[0] for line in result.stderr.splitlines() if line[-1:] == "%"]
    assert {*steps} - {"load"} == STEPS
