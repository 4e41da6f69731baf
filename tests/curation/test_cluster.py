"""Real clusters: nodes that come and go, and a job submitted to a head that asks for a token."""

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.dataset.manifest import read_manifest
from curation.run.runner import Spread
from tests.curation.cluster import (
    add_node,
    cluster,
    driver,
    end_all,
    environment,
    napping_source,
    num_committed,
    wait_for,
)
from tests.curation.poisoned import poison_recipe, use_third_party
from tests.curation.shards import RECIPE, bytes_of, mixed_source
from tests.places import ROOT
from tests.ports import free_ports
from tests.third_party.poison import NAP_NAME

EXAMPLE = ROOT / "docs" / "examples" / "curate-job.sh"


@pytest.mark.slow
def test_nodes_that_join_and_vanish_in_the_middle_of_a_run_lose_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_third_party(monkeypatch)
    # Ray keeps the first token that a process loads, so a cluster within this one cannot ask for another.
    for name, value in (environment(tmp_path) | {"RAY_AUTH_MODE": "disabled"}).items():
        monkeypatch.setenv(name, value)
    source, target = napping_source(tmp_path / "in", 10, 12), tmp_path / "out"
    recipe = poison_recipe(tmp_path, ("max_measure_s = 1.5", "max_measure_s = 60.0"))
    with cluster(tmp_path, num_nodes=2) as nodes:
        first, second = [node for node in nodes.list_all_nodes() if not node.is_head()]
        process = driver(source, target, recipe.path, nodes.address)
        wait_for(lambda: num_committed(target) >= 2, process)
        nodes.remove_node(first, allow_graceful=False)
        add_node(nodes)
        seen = num_committed(target)
        wait_for(lambda: num_committed(target) >= min(8, seen + 2), process)
        nodes.remove_node(second, allow_graceful=False)
        assert process.wait(120) == 0
    manifest = read_manifest(target)
    assert (manifest.num_seen, manifest.num_kept, manifest.failed, manifest.rejected) == (140, 140, {}, {})
    assert [report.shard for report in manifest.shards] == [f"{number:05d}" for number in range(10)]
    monkeypatch.setenv(NAP_NAME, "0")
    whole = tmp_path / "whole"
    curate(source, whole, recipe, Spread(0))
    assert bytes_of(target) == bytes_of(whole)
    assert (target / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()


@pytest.fixture
def head(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A head with a token and the job API on loopback ports of its own; yields what a client must set."""
    if find_spec("aiohttp_cors") is None:
        pytest.skip("the job API needs ray[default]")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, module in (("facecaptionhq", "cli"), ("ray", "ray.scripts.scripts")):
        (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (binaries / name).chmod(0o755)
    names = (
        "port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port", "metrics-export-port",
        "runtime-env-agent-port", "dashboard-agent-grpc-port",
    )  # fmt: skip
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    variables = {
        **os.environ,
        **environment(tmp_path),
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [
        str(binaries / "ray"), "start", "--head", "--block", "--node-ip-address", "127.0.0.1",
        "--dashboard-host", "127.0.0.1", "--num-cpus", "2", "--object-store-memory", str(100 << 20),
        *(f"--{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    api = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        wait_for(lambda: status(api, variables["RAY_AUTH_TOKEN"]) == 200, process)
        yield {**variables, "RAY_API": api}
    finally:
        process.terminate()
        process.wait(60)
        end_all(tmp_path)
        shutil.rmtree(variables["RAY_TMPDIR"], ignore_errors=True)


def status(api: str, token: str | None) -> int:
    """The HTTP status of the list of jobs; 0 where nobody answers."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with closing(urllib.request.urlopen(urllib.request.Request(f"{api}/api/jobs/", headers=headers))) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


@pytest.mark.slow
def test_the_example_job_runs_on_a_head_that_turns_strangers_away(tmp_path: Path, head: dict[str, str]) -> None:
    assert (status(head["RAY_API"], None), status(head["RAY_API"], "0" * 32)) == (401, 403)
    source, recipe = mixed_source(tmp_path / "in", 3), tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    command = [str(EXAMPLE), str(source), str(tmp_path / "out"), "2", "--recipe", str(recipe)]
    done = subprocess.run(command, env=head, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "curate: 24 seen = 12 kept + " in done.stdout
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"time"')]
    assert sorted(line["shard"] for line in lines) == ["00000", "00001", "00002"]
    assert read_manifest(tmp_path / "out").num_kept == 12
    stranger = head | {"RAY_AUTH_TOKEN": "0" * 32}
    refused = subprocess.run(command, env=stranger, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode != 0 and "submitted successfully" not in refused.stdout


@pytest.mark.campaign
@pytest.mark.timeout(1500)
def test_whatever_part_of_a_run_dies_or_is_wrong_the_same_command_ends_like_a_run_that_nobody_disturbed(
    tmp_path: Path,
) -> None:
    out = tmp_path / "deaths.json"
    command = [sys.executable, "-m", "benchmarks.faults.deaths", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    codes = {case["case"]: case["code"] for case in json.loads(out.read_text())["cases"] if "skipped" not in case}
    assert {"head": 1, "driver": 0, "resubmitted": 75, "spot": 0}.items() <= codes.items()


@pytest.mark.campaign
@pytest.mark.timeout(1500)
def test_twenty_random_kills_on_two_nodes_leave_what_an_undisturbed_run_leaves(
    tmp_path: Path,
) -> None:
    out = tmp_path / "kills.json"
    command = [sys.executable, "-m", "benchmarks.faults.kills", "--num-kills", "20", "--seed", "1", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert sum(result["num_kills"].values()) == 20 and len(result["num_kills"]) == 4
    assert result["num_lost"] == result["num_doubled"] == result["num_files_that_differ"] == 0
