"""What launchers take: scripts that run under bash with the launcher's programs stood in for, and KubeRay's manifests.

KubeRay's own schema lies in no package registry; the manifests are held against the fields of it that they use
(`tests/curation/commands/launch/ray_io.py`, `tests/scripts/test_manifests.py`).
"""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]

from curation.commands.launch.job import FleetJob, hours_of
from curation.commands.launch.stage import PROGRAMS, SUBMITTED, files_of, submit, warnings_of, write
from curation.errors import ClusterError, UsageError
from tests.places import ROOT
from tests.snippets import parse

JOB = FleetJob("s3://bucket/fetch", "/data/a b/curate", "facecaptionhq-4m", 40, 16, 3, hours=20.0)
TOOLS = {
    "scontrol": 'printf "n1\\nn2\\nn3\\n"',
    "srun": 'case "$*" in *hostname*) printf "127.0.1.1\\n10.0.0.1 10.0.0.2 fd00::1\\n";; *) exec sleep 1;; esac',
    "ray": "true",
    "sbatch": "echo '77;cluster'",
    "kubectl": "true",
    "facecaptionhq": "true",
}
EVERYTHING = replace(JOB, num_gpus=0.25, on_spot=True, redis="redis:6379", image="registry/it:1")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs that write down how they were called, and do as little as will do."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in TOOLS.items():
        noted = f'{{ printf "%q " {name} "$@"; echo; }} >>{tmp_path}/calls'
        (folder / name).write_text(f"#!/bin/bash\n{noted}\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


def run(script: Path, tools: Path, **variables: str) -> list[list[str]]:
    """Run a script, and return the calls that it made."""
    (tools.parent / "calls").unlink(missing_ok=True)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", **variables}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in (tools.parent / "calls").read_text().splitlines()]


def options(script: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.MULTILINE))


def test_slurm_brings_ray_up_over_an_allocation_and_gives_it_the_command(tmp_path: Path, tools: Path) -> None:
    files = files_of("slurm", JOB)
    write(files, tmp_path / "out")
    given = options(files["ray.sbatch"])
    assert (given["nodes"], given["cpus-per-task"], given["mem"], given["time"]) == ("3", "16", "48G", "1-06:00:00")
    with_gpus = options(files_of("slurm", replace(JOB, num_gpus=0.25))["ray.sbatch"])
    assert "gpus-per-node" not in given and with_gpus["gpus-per-node"] == "4"
    nodes = {"SLURM_JOB_NODELIST": "n[1-3]", "SLURM_JOB_NUM_NODES": "3", "SLURM_CPUS_PER_TASK": "16"}
    nodes["SLURM_JOB_ID"] = "12345"
    calls = run(tmp_path / "out" / "ray.sbatch", tools, **nodes)
    (call,) = (words[1:] for words in calls if words[0] == "facecaptionhq")
    parse(call)
    assert call[:3] == ["curate", JOB.source, JOB.target] and call[call.index("--ray-address") + 1] == "10.0.0.1:24690"
    starts = [words for words in calls if words[0] == "srun" and "start" in words]
    assert sorted("--head" in words for words in starts) == [False, True]
    assert all("--cpus-per-task=16" in words for words in starts)  # a step inherits them no more, since Slurm 22.05
    node = next(words for words in starts if "--head" not in words)
    assert {"--nodes=2", "--ntasks=2", "--exclude=n1"} <= set(node) and "10.0.0.1:24690" in node


@pytest.mark.parametrize(
    ("program", "text", "said"),
    [
        ("srun", 'case "$*" in *hostname*) echo 127.0.1.1 fd00::1;; esac', "n1: no IPv4 address"),
        ("ray", "exit 1", "Ray's head on n1 ended before it was up"),
    ],
)
def test_a_job_whose_head_does_not_come_up_ends_at_once_and_says_so(
    tmp_path: Path, tools: Path, program: str, text: str, said: str
) -> None:
    (tools / "srun").write_text('#!/bin/bash\ncase "$*" in *hostname*) echo 10.0.0.1;; *) exit 1;; esac\n')
    (tools / program).write_text(f"#!/bin/bash\n{text}\n")
    (tools / "sleep").write_text("#!/bin/bash\nexec /bin/sleep 0.2\n")
    (tools / "sleep").chmod(0o755)
    write(files_of("slurm", JOB), tmp_path / "out")
    nodes = {"SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_ID": "1"}
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", **nodes}
    script = tmp_path / "out" / "ray.sbatch"
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and said in done.stderr
    assert "facecaptionhq" not in (tmp_path / "calls").read_text()


def test_an_array_shares_the_shards_out_without_ray_and_one_job_joins_them(tmp_path: Path, tools: Path) -> None:
    files = files_of("slurm-array", replace(JOB, num_workers=3))
    write(files, tmp_path / "out")
    assert options(files["array.sbatch"])["array"] == "1-3"
    shares = []
    for number in "123":
        ((name, *call),) = run(tmp_path / "out" / "array.sbatch", tools, SLURM_ARRAY_TASK_ID=number)
        parse(call)
        assert name == "facecaptionhq" and call[call.index("--shards") + 1] == f"{number}/3"
        assert call[call.index("--workers") + 1] == "0"
        shares.append(call[2])
    assert shares == [f"/data/a b/curate.shares/{number}" for number in "123"]
    ((_, *call),) = run(tmp_path / "out" / "join.sbatch", tools)
    parse(call)
    assert call[2] == JOB.target and [call[i + 1] for i, word in enumerate(call) if word == "--join"] == shares
    calls = run(tmp_path / "out" / "array.sh", tools)
    assert [words[-1] for words in calls] == ["array.sbatch", "join.sbatch"]
    assert "--dependency=afterok:77" in calls[1]


@pytest.mark.parametrize("launcher", ["slurm", "slurm-array", "ray"])
def test_scripts_mean_the_same_files_from_whatever_folder_they_run(
    launcher: str, tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("")
    files = files_of(launcher, replace(JOB, source="run/fetch", target="run/curate", recipe="mine.toml"))
    write(files, tmp_path / "launch")
    monkeypatch.chdir("/")
    nodes = {"SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_ID": "1"}
    for name in [name for name in files if name != "array.sh"]:
        calls = run(tmp_path / "launch" / name, tools, SLURM_ARRAY_TASK_ID="1", **nodes)
        words = next(words[words.index("curate") + 1 :] for words in calls if "curate" in words)
        assert words[0] == f"{tmp_path}/run/fetch" and words[1].startswith(f"{tmp_path}/run/curate")
        assert words[words.index("--recipe") + 1] == f"{tmp_path}/mine.toml"
        assert all(to.startswith(f"{tmp_path}/run/") for mark, to in pairwise(words) if mark == "--join")
    signals = {options(text)["signal"] for text in files.values() if "--signal" in text}
    assert signals <= {"B:TERM@120"}  # to the batch shell, which waits for the driver or became it


def test_paths_that_no_pod_would_see_are_named() -> None:
    local = replace(JOB, source="/data/fetch", target="s3://bucket/curate")
    (warning,) = warnings_of("kuberay", local)
    assert warning.startswith("/data/fetch: no pod sees that") and "s3://bucket/curate" not in warning
    assert not [*warnings_of("kuberay", replace(local, source="s3://bucket/fetch")), *warnings_of("slurm", local)]


def test_kuberay_s_manifests_say_what_was_asked_for() -> None:
    files = {name: yaml.safe_load(text) for name, text in files_of("kuberay", EVERYTHING).items()}
    assert {name: (whole["apiVersion"], whole["kind"]) for name, whole in files.items()} == {
        "rayjob.yaml": ("ray.io/v1", "RayJob"),
        "raycluster.yaml": ("ray.io/v1", "RayCluster"),
    }
    spec = files["rayjob.yaml"]["spec"]
    assert spec["rayClusterSpec"] == files["raycluster.yaml"]["spec"]
    words = shlex.split(spec["entrypoint"])
    parse(words[1:])
    cluster = spec["rayClusterSpec"]
    head, (group,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    for container, volumes in ((pod["containers"][0], pod["volumes"]) for pod in map(pod_of, (head, group))):
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in volumes}
    (worker,) = group["template"]["spec"]["containers"]
    assert worker["resources"]["limits"] == {"cpu": "16", "memory": "48Gi", "nvidia.com/gpu": "4"}
    assert (worker["image"], group["maxReplicas"], head["rayStartParams"]["num-cpus"]) == ("registry/it:1", 3, "0")
    assert {t["key"] for t in group["template"]["spec"]["tolerations"]} == {"facecaptionhq.io/spot", "nvidia.com/gpu"}
    plain = yaml.safe_load(files_of("kuberay", JOB)["raycluster.yaml"])["spec"]
    assert plain.keys() == cluster.keys() - {"gcsFaultToleranceOptions"}
    assert "tolerations" not in plain["workerGroupSpecs"][0]["template"]["spec"]
    assert "tolerations" not in head["template"]["spec"]  # a head stays


def pod_of(group: Mapping[str, Any]) -> Any:
    return group["template"]["spec"]


def test_a_launch_is_handed_over_where_its_program_is_and_else_says_what_to_do(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    for launcher, (program, *_) in SUBMITTED.items():
        write(files_of(launcher, JOB), tmp_path / launcher)
        submit(launcher, tmp_path / launcher)
        calls = (tmp_path / "calls").read_text().splitlines()
        assert calls[-1].startswith({"bash": "ray" if launcher == "ray" else "sbatch"}.get(program, program))
    parse(shlex.split(calls[-1])[shlex.split(calls[-1]).index("facecaptionhq") + 1 :])
    (tools / "sbatch").write_text("#!/bin/bash\nexit 3\n")
    with pytest.raises(ClusterError, match=r"sbatch ray\.sbatch.* ended with 3"):
        submit("slurm", tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "bash").symlink_to("/bin/bash")  # is everywhere; what its script calls is what must be here
    for launcher, program in PROGRAMS.items():
        with pytest.raises(ClusterError, match=f"{program} is not here"):
            submit(launcher, tmp_path / launcher)
    with pytest.raises(UsageError, match="did you mean 'slurm'"):
        files_of("slurn", JOB)


def test_the_time_limit_follows_from_a_forecast(tmp_path: Path) -> None:
    (tmp_path / "forecast.json").write_text(json.dumps({"num_workers": 16, "stages": {"curate": {"hours": 10.0}}}))
    assert hours_of(tmp_path / "forecast.json", 64) == 2.5
    assert (replace(JOB, hours=2.5).limit, replace(JOB, hours=None).limit) == ("0-04:00:00", None)
    (tmp_path / "forecast.json").write_text("{}")
    with pytest.raises(UsageError, match="not what `plan --json` prints"):
        hours_of(tmp_path / "forecast.json", 64)


def test_the_dockerfile_copies_what_there_is_and_installs_by_the_lock() -> None:
    text = (ROOT / "docs" / "examples" / "Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE)
    assert stages == ["build", "cpu", "cuda"] and "--require-hashes" in text
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists() or (ROOT / name.replace("${LOCK}", "cpython-311-x86_64-linux-gnu")).exists(), name
