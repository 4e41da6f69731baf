"""A Ray cluster of this machine with a token of its own, whose nodes can be added and taken away."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.curation.poisoned import THIRD_PARTY, poisoned_shard
from tests.ports import free_ports
from tests.third_party.poison import NAP

RUN = """
import sys
from pathlib import Path
from curation.commands.curate.stage import curate
from curation.recipe.recipe import load_recipe
from curation.run.runner import Spread
source, target, recipe, address = sys.argv[1:]
manifest = curate(Path(source), Path(target), load_recipe(recipe), Spread(2, address))
sys.exit(len(manifest.failed))
"""
OBJECT_STORE_BYTES = 100 << 20


def calm_environment(folder: Path) -> dict[str, str]:
    """What every process of the cluster and its drivers must share; the folder marks them as ours."""
    return {
        "RAY_TMPDIR": tempfile.mkdtemp(prefix="fchq-"),  # short, for sockets; and no file names this cluster to others
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "FACECAPTIONHQ_FILTERS": str(THIRD_PARTY),
        "FACECAPTIONHQ_RUN": str(folder),
    }


def environment(folder: Path) -> dict[str, str]:
    """The same for a cluster whose nodes are to vanish, and to be missed soon."""
    return {
        **calm_environment(folder),
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "1000",
        "RAY_health_check_failure_threshold": "4",
    }


@contextmanager
def cluster(folder: Path, num_nodes: int, num_head_cpus: int = 0) -> Iterator[Any]:
    """Yield a `ray.cluster_utils.Cluster` of a head and of nodes of one CPU each.

    The environment of this process must hold `environment(folder)` already.
    """
    from ray.cluster_utils import Cluster

    temporary = Path(os.environ["RAY_TMPDIR"], "ray")
    temporary.mkdir(parents=True)
    head = {
        "num_cpus": num_head_cpus, "include_dashboard": False, "no_monitor": True,
        "object_store_memory": OBJECT_STORE_BYTES, **agent_ports(),
    }  # fmt: skip
    made = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
    try:
        for _ in range(num_nodes):
            add_node(made)
        yield made
    finally:
        made.shutdown()
        end_all(folder)
        shutil.rmtree(temporary.parent, ignore_errors=True)


def add_node(made: Any) -> Any:
    """Add a machine of one CPU."""
    return made.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES, **agent_ports())


def agent_ports() -> dict[str, int]:
    """Ports of a node's agents: where they are told theirs, the node need not wait some seconds for them to choose."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    return dict(zip(names, free_ports(len(names)), strict=True))


def napping_source(folder: Path, num_shards: int, num_naps: int) -> Path:
    """Shards that each take `num_naps` tenths of a second."""
    for number in range(num_shards):
        poisoned_shard(folder, f"{number:05d}", [0, 0] + [NAP] * num_naps)
    return folder


def driver(source: Path, target: Path, recipe: str, address: str) -> "subprocess.Popen[bytes]":
    """Start a run on the cluster in a process of its own; its exit status is the number of failed shards."""
    command = [sys.executable, "-c", RUN, str(source), str(target), recipe, address]
    return subprocess.Popen(command, env=os.environ | {"PYTHONWARNINGS": "ignore"})


def num_committed(target: Path) -> int:
    """How many done records lie in a folder."""
    return len(list(target.glob("*_stats.json")))


def wait_for(condition: Any, process: "subprocess.Popen[bytes]", seconds: float = 120) -> None:
    """Wait until a condition holds while a process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline, "too slow"
        time.sleep(0.05)


def processes_of(folder: Path) -> list[int]:
    """Ids of the living processes that were started with `environment(folder)`, this one apart."""
    mark, found = f"FACECAPTIONHQ_RUN={folder}\0".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if int(place.name) != os.getpid() and mark in (place / "environ").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def end_all(folder: Path) -> None:
    """Kill what is left of a cluster, and nothing else."""
    for pid in processes_of(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
