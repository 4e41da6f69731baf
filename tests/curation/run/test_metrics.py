"""Metrics of a stage: the textfile says what the ledgers say, and every panel of the dashboard has its metric."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from curation.commands.curate.stage import curate
from curation.dataset.manifest import ShardReport
from curation.errors import StorageError
from curation.run.metrics import METRICS, RayMetrics
from curation.run.progress import progress
from curation.run.runner import Spread, run_all
from tests.curation.shards import RECIPE, mixed_source, recipe_from
from tests.places import ROOT

ALONE = Spread(num_workers=0)
DASHBOARD = ROOT / "docs" / "examples" / "grafana.json"


def samples(path: Path) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(path.read_text())
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def test_the_textfile_counts_what_a_run_did_and_no_shard_twice(tmp_path: Path) -> None:
    source, file = mixed_source(tmp_path / "in", 3), tmp_path / "curate.prom"
    (source / "00002.tar").write_bytes(b"torn")
    recipe = recipe_from(tmp_path, RECIPE.replace("[[filters]]", "[curate]\nisolate = false\n[[filters]]"))
    with progress("curate", quiet=True, metrics=file) as on_outcome:
        manifest = curate(source, tmp_path / "out", recipe, ALONE, on_outcome)
        told = samples(file)
        assert told["facecaptionhq_up", "curate"] == 1
    told = samples(file)
    assert told["facecaptionhq_pictures_total", "curate", "kept"] == manifest.num_kept == 8
    assert told["facecaptionhq_pictures_total", "curate", "rejected"] == manifest.num_seen - manifest.num_kept
    rejected = Counter({r: n for by in manifest.rejected.values() for r, n in by.items()})
    counted = {key[1]: value for key, value in told.items() if key[0] == "facecaptionhq_rejected_total"}
    assert sum(rejected.values()) == sum(v for k, v in told.items() if k[0] == "facecaptionhq_rejected_total"), counted
    assert told["facecaptionhq_shards_total", "committed", "curate"] == 2
    assert told["facecaptionhq_shards_total", "curate", "failed"] == 1
    assert told["facecaptionhq_lease", "curate"] == 1
    assert (told["facecaptionhq_shards_expected", "curate"], told["facecaptionhq_up", "curate"]) == (3, 0)
    num_bytes = sum(record.num_bytes for shard in manifest.shards for record in shard.files.values())
    assert told["facecaptionhq_bytes_total", "curate"] == num_bytes
    assert told["facecaptionhq_shard_seconds_count", "curate"] == 2
    assert told["facecaptionhq_measured_total", "colour", "curate"] == 12
    assert told["facecaptionhq_peak_bytes", "curate", "worker"] > 1 << 20
    assert list(tmp_path.glob("curate.prom*")) == [file]
    with pytest.raises(StorageError, match=r"none.x\.prom: metrics cannot be written"):  # noqa: SIM117
        with progress("curate", metrics=tmp_path / "none" / "x.prom"):
            pass


def test_every_panel_of_the_dashboard_asks_for_metrics_that_there_are_and_every_metric_is_shown() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    names = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"facecaptionhq_\w+", target["expr"])
    }
    ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket",)}
    there = {f"{name}{end}" for name, metric in METRICS.items() for end in ends[metric.kind]}
    assert names == there
    assert len({panel["title"] for panel in panels}) == len(panels) == len({panel["id"] for panel in panels})


@dataclass(frozen=True)
class Named:
    shard: str


def report_of(job: Named) -> ShardReport:
    return ShardReport(job.shard, "work", 9, 4, {"faces": {"many": 5}}, {})


@pytest.mark.slow
def test_where_ray_runs_its_own_metrics_are_told_and_else_they_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    told = RayMetrics()
    told.record("facecaptionhq_up", {"stage": "curate"}, 1.0)
    assert told.made == {}
    monkeypatch.setattr("curation.run.metrics.RayMetrics", lambda: told)
    with progress("curate", quiet=True) as on_outcome:
        run_all([Named("00000"), Named("00001")], report_of, Spread(1), on_outcome)
    assert {type(metric).__module__ for metric in told.made.values()} == {"ray.util.metrics"}
    assert {"facecaptionhq_pictures", "facecaptionhq_rejected", "facecaptionhq_shards_expected"} <= told.made.keys()
