"""Lets each part of a run on a real Ray cluster die or be wrong, and looks how the run ends and what is left of it.

    python -m benchmarks.faults.deaths [CASE ...] [--out benchmarks/results/deaths.json]

A node that sees other folders than the rest runs in a mount namespace of its own (root, or a user who may make one),
one whose clock is wrong under libfaketime (Debian: libfaketime); where there is no such thing, its case is skipped by
name. After every case the plain command is given once more, without Ray: its folder must be byte for byte that of a
run that nobody disturbed. Exit code 0 if all are.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, commit, machine
from tests.curation.cluster import OBJECT_STORE_BYTES, agent_ports, cluster, environment, napping_source, wait_for
from tests.curation.cluster import num_committed as num_done
from tests.curation.poisoned import RECIPE
from tests.curation.shards import bytes_of
from tests.third_party.poison import NAP_NAME

WISHES = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    "RAY_raylet_start_wait_time_s": "120",
    NAP_NAME: "0.1",
}
NUM_SHARDS, NUM_NAPS = 6, 10
END_S = 300
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
SAID = ("FAILED:", "facecaptionhq: ", "Failed to connect to GCS")
"""What begins, or stands in, the lines that a case is told by."""


@dataclass(frozen=True)
class Place:
    """Where one case happens."""

    folder: Path
    nodes: Any

    @property
    def target(self) -> Path:
        """The folder that is curated into."""
        return self.folder / "out"

    def driver(self, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Type the command: on the cluster, where there is one."""
        where = ["--workers", "0"] if self.nodes is None else ["--ray-address", self.nodes.address, "--workers", "2"]
        call = [sys.executable, "-m", "cli", "curate", str(self.folder / "in"), str(self.target), *where]
        call += ["--recipe", str(self.folder / "recipe.toml")]
        variables = {**os.environ, "PYTHONWARNINGS": "ignore", **(environment or {})}
        return subprocess.Popen(call, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @contextmanager
    def node(self, before: Sequence[str] = (), variables: dict[str, str] | None = None) -> Iterator[str]:
        """Start a Ray node of one CPU as a process of its own, and yield its id."""
        told = {name.replace("_", "-"): port for name, port in agent_ports().items() if "agent_port" not in name}
        ports = [f"--{name}={port}" for name, port in told.items()]
        call = [*before, sys.executable, "-m", "ray.scripts.scripts", "start", "--address", self.nodes.address]
        call += ["--num-cpus", "1", "--object-store-memory", str(OBJECT_STORE_BYTES), "--block", *ports]
        known = {node["NodeID"] for node in self.alive()}
        process = subprocess.Popen(
            call, env={**os.environ, **(variables or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: len(self.alive()) > len(known), process)
            yield next(node["NodeID"] for node in self.alive() if node["NodeID"] not in known)
        finally:
            process.terminate()
            process.wait(60)

    def alive(self) -> list[Any]:
        """Return the nodes that the head believes to live."""
        return [node for node in self.nodes.global_state.node_table() if node["Alive"]]

    def begun(self, process: Any, num: int = 1) -> None:
        """Wait until so many shards are committed."""
        wait_for(lambda: num_done(self.target) >= num, process)


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return how a command ended, and the lines that say why."""
    out, _ = process.communicate(timeout=END_S)
    lines = [line.strip() for line in out.splitlines() if any(sign in line for sign in SAID)]
    return {"code": process.returncode, "said": lines[:3]}


def head(place: Place) -> dict[str, Any]:
    """The head dies in mid-run."""
    process = place.driver()
    place.begun(process)
    place.nodes.head_node.kill_gcs_server()
    return ended(process)


def driver(place: Place) -> dict[str, Any]:
    """The driver is killed in mid-run, and its command typed again on the same cluster."""
    process = place.driver()
    place.begun(process)
    process.kill()
    process.communicate()
    return ended(place.driver())


def resubmitted(place: Place) -> dict[str, Any]:
    """The command is submitted again while the first one lives; the first one goes on."""
    process = place.driver()
    place.begun(process)
    second = ended(place.driver())
    first = ended(process)
    return second | {"first": first["code"], "again": ended(place.driver())["code"]}


def without(place: Place, what: Path) -> dict[str, Any]:
    """A node sees an empty folder where all others see the source, or the target."""
    what.mkdir(exist_ok=True)
    hidden = f'mount -t tmpfs none "{what}" && exec "$@"'
    with place.node(["unshare", "--mount", "sh", "-c", hidden, "sh"]):
        return ended(place.driver())


def no_target(place: Place) -> dict[str, Any]:
    """A node lacks the folder that the run writes."""
    return without(place, place.target)


def no_source(place: Place) -> dict[str, Any]:
    """A node lacks the source."""
    return without(place, place.folder / "in")


def spot(place: Place) -> dict[str, Any]:
    """A spot node is drained with two seconds' notice, then taken; another one comes."""
    with place.node() as node:
        process = place.driver()
        place.begun(process)
        call = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", place.nodes.address]
        call += ["--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "taken"]
        drained = subprocess.run([*call, "--deadline-remaining-seconds", "2"], capture_output=True, check=False)
        time.sleep(2)
    with place.node():
        return ended(process) | {"drained": drained.returncode}


def clocks(place: Place) -> dict[str, Any]:
    """A node's clock is a day ahead, the driver's a day behind; that is killed and followed by one that is right."""
    wrong = {"LD_PRELOAD": str(FAKETIME)}
    with place.node(variables={**wrong, "FAKETIME": "+1d"}):
        process = place.driver({**wrong, "FAKETIME": "-1d"})
        place.begun(process)
        process.kill()
        process.communicate()
        return ended(place.driver())


def may_unshare() -> bool:
    """Whether a process may see other mounts here than all others."""
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


CASES: dict[str, tuple[Callable[[Place], dict[str, Any]], Callable[[], bool]]] = {
    "head": (head, lambda: True),
    "driver": (driver, lambda: True),
    "resubmitted": (resubmitted, lambda: True),
    "no-target": (no_target, may_unshare),
    "no-source": (no_source, may_unshare),
    "spot": (spot, lambda: True),
    "clocks": (clocks, FAKETIME.is_file),
}
"""Case -> what happens, and whether it can be tried here."""


def tried(name: str) -> dict[str, Any]:
    """Return how a case ended, and whether the plain command then ends as if nothing had been."""
    case, can_be = CASES[name]
    if not can_be():
        return {"case": name, "skipped": "not possible on this machine", "is_good": True}
    with tempfile.TemporaryDirectory(prefix="deaths-") as folder:
        base = Path(folder)
        os.environ |= environment(base) | WISHES
        text = RECIPE.format(marks=base / "marks").replace("max_measure_s = 1.5", "max_measure_s = 60.0")
        (base / "recipe.toml").write_text(text, encoding="utf-8")
        napping_source(base / "in", NUM_SHARDS, NUM_NAPS)
        started = time.monotonic()
        with cluster(base, num_nodes=1) as nodes:
            end = json.loads(json.dumps(case(Place(base, nodes))).replace(str(base), "RUN"))
        os.environ[NAP_NAME] = "0"
        alone = Place(base, None)
        after = ended(alone.driver())
        shutil.move(alone.target, base / "disturbed")
        whole = ended(alone.driver())
        is_good = after["code"] == whole["code"] == 0 and bytes_of(base / "disturbed") == bytes_of(alone.target)
        same = (base / "disturbed" / "manifest.json").read_bytes() == (alone.target / "manifest.json").read_bytes()
        ran = {"wall_s": round(time.monotonic() - started, 1)}
        return {"case": name, "what": case.__doc__, **end, **ran, "is_good": is_good and same}


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the cases, and write how each ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--out", type=Path, default=RESULTS / "deaths.json")
    options = parser.parse_args(arguments)
    results = []
    for name in options.cases or CASES:
        results.append(tried(name))
        print(json.dumps(results[-1]), flush=True)
        keep(results[-1], options.out)
    return 0 if all(one["is_good"] for one in results) else 1


def keep(result: dict[str, Any], out: Path) -> None:
    """Write a case in place of what was known of it; the others stay, each with the commit at which it was tried."""
    found = json.loads(out.read_text(encoding="utf-8"))["cases"] if out.is_file() else []
    kept = {one["case"]: one for one in [*found, {**result, "commit": commit()}]}
    cases = [kept[name] for name in CASES if name in kept]
    out.write_text(json.dumps({"cases": cases, "machine": machine()}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
