"""Measures a peer and ours in turn, each in a process of one thread, on the same pictures."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pictures.pieces import first_samples, write_pictures
from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.speed.peers.environment import python_of

OURS = "benchmarks.speed.peers.ours"
INSIDE = Path(__file__).parent / "inside"
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Part:
    """A part of the job that both do."""

    name: str
    what: str
    """What the peer does, in words."""
    ours: tuple[str, ...]
    """Our steps that answer the same: `decode` and filters of the recipe."""


@dataclass(frozen=True)
class Peer:
    """Another curator."""

    name: str
    requirements: str
    """File in `locks/`."""
    script: str
    """File in `inside/`; called with the folder of pictures, it prints JSON: version, `seconds` and `kept` by part."""
    parts: tuple[Part, ...]


def compare(peer: Peer, arguments: Sequence[str] | None, about: str | None) -> int:
    """Measure, and write the figures under the peer's name into the results."""
    options = options_of(peer.name, arguments, about)
    python = python_of(peer.name, peer.requirements)
    parts = sorted({"+".join(part.ours) for part in peer.parts})
    theirs: list[dict[str, Any]] = []
    ours: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = write_pictures(first_samples(options.corpus, options.num_samples), Path(name, "in"))
        for turn in range(options.rounds):
            theirs.append(_run([str(python), "-I", str(INSIDE / peer.script), str(folder)]))
            ours.append(_run([sys.executable, "-m", OURS, str(folder), options.recipe, *parts]))
            print(f"round {turn + 1}: {peer.name}", file=sys.stderr)
    result = {
        "version": theirs[0]["version"],
        "recipe": options.recipe,
        "num_pictures": options.num_samples,
        "rounds": options.rounds,
        "parts": {part.name: _part(part, theirs, ours, options.num_samples) for part in peer.parts},
    }
    save(options.out, peer.name, result)
    return 0


def options_of(peer: str, arguments: Sequence[str] | None, about: str | None) -> argparse.Namespace:
    """Return what a peer's command line says."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.speed.peers.{peer}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("corpus", type=Path, help="a folder of tars")
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--num-samples", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "peers.json")
    return parser.parse_args(arguments)


def save(path: Path, peer: str, result: Mapping[str, Any]) -> None:
    """Put a peer's figures beside those of the others."""
    facts = {"load_average_1_min": round(os.getloadavg()[0], 1), "machine": machine(), "commit": commit()}
    done = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**done, peer: {**result, **facts}}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def _part(
    part: Part, theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]], num_pictures: int
) -> dict[str, Any]:
    def ms(seconds: Sequence[float]) -> float:
        return 1000 * sum(seconds) / len(seconds) / num_pictures

    peer_ms = ms([run["seconds"][part.name] for run in theirs])
    ours_ms = ms([run["seconds"]["+".join(part.ours)] for run in ours])
    kept = ours[0]["kept"]["+".join(part.ours)]
    return {
        "what": part.what,
        "ours": list(part.ours),
        "peer_cpu_ms_per_picture": round(peer_ms, 3),
        "ours_cpu_ms_per_picture": round(ours_ms, 3),
        "peer / ours": round(peer_ms / ours_ms, 3),
        "peer_kept": sum(theirs[0]["kept"][part.name]),
        "ours_kept": sum(kept),
        "same_verdicts": sum(a == b for a, b in zip(theirs[0]["kept"][part.name], kept, strict=True)),
    }


def _run(command: Sequence[str]) -> dict[str, Any]:
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
