"""The forecast: measured on the real stages, honest about what it does not know, and gone without a trace."""

import importlib
import json
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.curate.stage import curate
from curation.commands.fetch.stage import fetch
from curation.commands.pack.stage import pack
from curation.commands.plan.forecast import _sampled, plan, score, score_run, share
from curation.commands.rank.stage import rank
from curation.dataset.manifest import read_manifest, read_report
from curation.dataset.tar import read_samples
from curation.errors import SafetyError, ShardError, UsageError
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from demo.server import DemoServer, serve
from tests.curation.commands.fetch.hostile import Connection, Script, hostile, ok
from tests.curation.shards import colourful, grey, recipe_from

RECIPE = """
schema_version = 1
name = "planning"
[rank]
rows_per_part = 30
[fetch]
num_retries = 1
retry_wait_s = 0.05
timeout_s = 2
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
"""
WAIVER = "the test drew every picture itself"
ALONE = Spread(num_workers=0)
NUM_ROWS = 90


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(NUM_ROWS):
        (folder / f"{number}.jpg").write_bytes((grey if number % 3 == 0 else colourful)(number))
    with serve(folder) as running:
        yield running


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory, server: DemoServer) -> Path:
    """A selection of which every fifth link is dead."""
    urls = [f"{server.base_url}/{'missing' if n % 5 == 0 else 'images'}/{n}.jpg" for n in range(NUM_ROWS)]
    return ranked(tmp_path_factory.mktemp("selection"), urls)


def ranked(folder: Path, urls: Sequence[str]) -> Path:
    """Rank metadata that names `urls`."""
    num = len(urls)
    faces = {"_id": urls, "caption": [["A face."]] * num, "url": urls, "box": ["[1, 2, 30, 40]"] * num}
    images = {"URL": urls, "TEXT": urls, "WIDTH": list(range(100, 100 + num)), "HEIGHT": [64] * num}
    images |= {"NSFW": ["UNLIKELY"] * num, "similarity": [0.3] * num, "LICENSE": ["?"] * num}
    pq.write_table(pa.table(faces), folder / "facecaption.parquet")
    pq.write_table(pa.table(images | {"SAMPLE_ID": list(range(num))}), folder / "laion.parquet")
    rank(folder / "facecaption.parquet", folder / "laion.parquet", folder / "rank", recipe_from(folder, RECIPE))
    return folder / "rank"


def recipe_of(folder: Path) -> Recipe:
    return recipe_from(folder, RECIPE)


@pytest.mark.slow
def test_the_forecast_of_a_sample_holds_the_whole_run(tmp_path: Path, selection: Path) -> None:
    recipe = recipe_of(tmp_path)
    forecast = plan(selection, recipe, ALONE, num_sampled=30, price=2.0, waiver=WAIVER, allow_loopback=True)
    assert (forecast.num_rows, forecast.num_parts, forecast.num_sampled) == (NUM_ROWS, 3, 30)
    fetch(selection, tmp_path / "fetch", recipe, ALONE, waiver=WAIVER, allow_loopback=True)
    curate(tmp_path / "fetch", tmp_path / "curate", recipe, ALONE)
    pack(tmp_path / "curate", tmp_path / "pack", recipe, ALONE)
    manifests = {stage: read_manifest(tmp_path / stage, stage) for stage in ("fetch", "pack")}
    scores = score(json.loads(json.dumps(forecast.values)), manifests)
    assert {name: one["is_within"] for name, one in scores.items()} == dict.fromkeys(scores, True)
    assert score_run(tmp_path) == {}
    (tmp_path / "forecast.json").write_text(json.dumps(forecast.values))
    of_run = score_run(tmp_path)
    assert {name: of_run.pop(name) for name in scores} == scores
    assert of_run.keys() == {"num_bytes", "hours_fetch", "hours_curate"}
    assert of_run["num_bytes"]["is_within"] is True and of_run["num_bytes"]["came"] == sum(
        len(sample.image_bytes) for tar in (tmp_path / "fetch").glob("*.tar") for sample in read_samples(tar)
    )
    for name in ("fetch", "curate"):
        run_s = [read_report(path).run["seconds"] for path in (tmp_path / name).glob("*_stats.json")]
        assert len(run_s) == 3 and of_run[f"hours_{name}"]["came"] == pytest.approx(sum(run_s) / 3600)
        assert of_run[f"hours_{name}"]["value"] == forecast.stages[name].hours
    told = CliRunner().invoke(app, ["report", str(tmp_path)]).stdout
    assert "num_bytes: " in told and "hours_fetch: " in told and ", as forecast (" in told
    (tmp_path / "forecast.json").write_text("{}")
    with pytest.raises(UsageError, match=r"forecast\.json: not what"):
        score_run(tmp_path)
    num_bytes = sum(
        pq.read_table(path)["num_bytes"].drop_null().to_numpy().sum()
        for path in (tmp_path / "fetch").glob("0*.parquet")
    )
    assert forecast.num_bytes.low <= num_bytes <= forecast.num_bytes.high
    for stage in forecast.stages.values():
        assert stage.hours > 0
        assert stage.cost == pytest.approx(2 * stage.hours)
    assert forecast.stages["fetch"].waiting_s_per_part < 3.0


@pytest.mark.slow
def test_a_sample_of_all_rows_leaves_nothing_unsure(tmp_path: Path, selection: Path) -> None:
    forecast = plan(selection, recipe_of(tmp_path), ALONE, num_sampled=1000, waiver=WAIVER, allow_loopback=True)
    assert forecast.num_sampled == NUM_ROWS
    assert (forecast.link_rot.low, forecast.link_rot.value, forecast.link_rot.high) == (0.2, 0.2, 0.2)
    assert forecast.num_final.low == forecast.num_final.high == 48


def test_planning_writes_nothing_and_leaves_nothing(
    tmp_path: Path, selection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module("wandb")  # which img2dataset imports, and which makes folders of its own when it is
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    before = {path: path.stat().st_mtime_ns for path in selection.rglob("*")}
    recipe = recipe_of(tmp_path)
    plan(selection, recipe, ALONE, num_sampled=9, waiver=WAIVER, allow_loopback=True)
    with pytest.raises(SafetyError):
        plan(selection, recipe, ALONE, num_sampled=9, allow_loopback=True)
    assert {path: path.stat().st_mtime_ns for path in selection.rglob("*")} == before
    assert list((tmp_path / "temp").iterdir()) == []


def unreachable(folder: Path, num_dead: int, num_alive: int, server: DemoServer) -> Path:
    """Rank links of which some go to a port where nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    urls = [f"http://127.0.0.1:{port}/{number}.jpg" for number in range(num_dead)]
    return ranked(folder, urls + [f"{server.base_url}/images/{number}.jpg" for number in range(num_alive)])


@pytest.mark.slow
@pytest.mark.parametrize(("num_dead", "num_alive"), [(10, 0), (19, 1), (120, 0)])
def test_a_network_that_is_not_there_is_an_error_and_no_link_rot(
    tmp_path: Path, server: DemoServer, num_dead: int, num_alive: int
) -> None:
    source = unreachable(tmp_path, num_dead, num_alive, server)
    told: list[str] = []
    with pytest.raises(ShardError, match="could not be reached") as caught:
        plan(source, recipe_of(tmp_path), ALONE, waiver=WAIVER, allow_loopback=True, tell=told.append)
    assert "what does not answer is waited for, up to 15 s and 2 times" in told[0]
    assert "run plan again" in str(caught.value) and "run fetch again" not in str(caught.value)
    assert str(source) in str(caught.value) and "fchq-plan-" not in str(caught.value)


def test_dead_links_beside_living_ones_are_link_rot(tmp_path: Path, server: DemoServer) -> None:
    forecast = plan(unreachable(tmp_path, 9, 3, server), recipe_of(tmp_path), ALONE, waiver=WAIVER, allow_loopback=True)
    assert forecast.link_rot.value == 0.75


def test_a_handful_of_dead_links_is_forecast_with_a_warning(
    tmp_path: Path, server: DemoServer, caplog: pytest.LogCaptureFixture
) -> None:
    source = unreachable(tmp_path, 3, 0, server)
    assert plan(source, recipe_of(tmp_path), ALONE, waiver=WAIVER, allow_loopback=True).link_rot.value == 1.0
    assert "3 of 3 addresses of the sample could not be reached" in caplog.text


def test_what_goes_wrong_with_the_sample_is_said_of_what_was_given(tmp_path: Path, selection: Path) -> None:
    with pytest.raises(SafetyError) as refused:
        plan(selection, recipe_of(tmp_path), ALONE, num_sampled=9, allow_loopback=True)
    assert str(refused.value).startswith(f"{selection}: these links were never held")


def test_a_forecast_asks_no_robots_txt_where_the_fetch_asks_none(tmp_path: Path) -> None:
    def forbids(connection: Connection) -> None:
        connection.send(ok(b"User-agent: *\nDisallow: /"))

    scripts: dict[str, Script] = {"/robots.txt": forbids, "/1.jpg": lambda connection: connection.send(ok(grey(1)))}
    with hostile(scripts) as server:
        source, recipe = ranked(tmp_path, [server.url("/1.jpg")]), recipe_of(tmp_path)
        words = ["plan", str(source), "--recipe", recipe.path, "--workers", "0", "--waiver", WAIVER, "--allow-loopback"]
        words += ["--json", "--robots-waiver"]
        told = CliRunner().invoke(app, [*words, "our own server"])
        assert told.exit_code == 0, told.output
        assert json.loads(told.stdout)["link_rot"]["value"] == 0.0
        assert [line.split()[1] for line in server.requests] == ["/1.jpg"]
        assert isinstance(CliRunner().invoke(app, [*words, " "]).exception, SafetyError)


def test_the_sample_takes_rows_from_all_of_the_ranking(selection: Path) -> None:
    parts = sorted(selection.glob("0*.parquet"))
    rows = _sampled(parts, NUM_ROWS, 30, seed=1)
    widths = rows["width"].to_pylist()
    assert widths == sorted(widths, reverse=True)
    assert [(189 - width) // 3 for width in widths] == list(range(30))
    assert len({(189 - width) % 3 for width in widths}) == 3
    assert _sampled(parts, NUM_ROWS, 30, seed=1).equals(rows)
    assert not _sampled(parts, NUM_ROWS, 30, seed=2).equals(rows)


@pytest.mark.parametrize(
    ("hits", "trials", "everything", "low", "high"),
    [(0, 100, 10**9, 0.0, 0.03700), (50, 100, 10**9, 0.40383, 0.59617), (81, 263, 10**9, 0.25525, 0.36620)],
)
def test_intervals_are_those_of_the_literature(
    hits: int, trials: int, everything: int, low: float, high: float
) -> None:
    """The last is the worked example of R. G. Newcombe, Statistics in Medicine 17, 1998."""
    found = share(hits, trials, everything)
    assert found.low == pytest.approx(low, abs=1e-4)
    assert found.high == pytest.approx(high, abs=1e-4)
    assert share(hits, trials, 2 * trials).high < found.high


def test_the_command_prints_the_forecast(tmp_path: Path, selection: Path) -> None:
    recipe_of(tmp_path)
    common = [str(selection), "--recipe", str(tmp_path / "recipe.toml"), "--workers", "0", "--sample", "15"]
    result = CliRunner().invoke(app, ["plan", *common, "--waiver", WAIVER, "--allow-loopback", "--price", "1"])
    assert result.exit_code == 0, result.output
    assert "90 rows in 3 parts; measured on 15 of them" in result.stdout
    assert "link rot" in result.stdout
    assert isinstance(CliRunner().invoke(app, ["plan", *common, "--allow-loopback"]).exception, SafetyError)
    assert isinstance(CliRunner().invoke(app, ["plan", str(tmp_path)]).exception, UsageError)
