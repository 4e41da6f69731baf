"""Fetches from a hostile web: every row has the reason it deserves, killed and resumed, by either engine.

    python -m benchmarks.scale.fetch FOLDER [--num-urls 20000] [--workers 2] [--engine direct] [--beside img2dataset]
        [--without-forecast]

Exit code 0 where every row of every run has the reason that its route deserves and the bytes of its own picture, the
run that was killed gives the bytes of the one that was not, another engine (`--beside`) gives URL by URL the same
outcome, reason and bytes, and the forecast of a 2 % sample holds what came, where one is asked for.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.faults.hostile_web import REASONS, SHARES, SIDE_PX, route_of, sha256_of, urls
from benchmarks.process_tree import ROLES, Tree
from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.web_process import web_process

RECIPE = """
schema_version = 1
name = "fetch-benchmark"
[rank]
rows_per_part = {rows_per_part}
[fetch]
timeout_s = 3
deadline_s = 6
grace_s = 1
max_bytes = 2000000
num_retries = 2
retry_wait_s = 2
num_threads = 32
[[filters]]
name = "colour"
keep.mean_channel_std = {{ min = 2.0 }}
"""
WAIVER = "a web of drawn pictures on this machine"
POLL_S = 0.1
ENGINES = ("direct", "img2dataset")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything and write the figures."""
    options = _options(arguments)
    shutil.rmtree(options.folder, ignore_errors=True)
    (options.folder / "twins").mkdir(parents=True)
    with web_process("-m", "benchmarks.faults.hostile_web") as port:
        addresses = urls(port, options.num_urls, options.num_hosts)
        rank_urls(options.folder, addresses, options.num_urls // options.num_parts)
        forecast = {} if options.without_forecast else _forecast(options.folder, options.num_urls // 50)
        _reset(port)
        whole = _killed(options.folder, options.workers, options.num_parts // 2, port, options.engine)
        twins = _twins(options.folder / "twins", addresses[: options.num_urls // 20], port, options.engine)
        beside = _beside(options.folder, options.workers, port, options.beside)
    accounted = _account(options.folder / "fetch", addresses)
    scores = _score(options.folder, forecast) if forecast else {}
    is_good = (
        accounted["num_wrong"] == accounted["num_missing"] == accounted["num_doubled"] == 0
        and accounted["num_rows"] == options.num_urls
        and accounted["num_other_bytes"] == 0
        and twins["equal_bytes"]
        and beside["num_rows_apart"] == 0
        and beside["equal_files"]
        and all(scored["is_within"] for scored in scores.values())
    )
    result = {
        "is_good": is_good,
        "campaign": {
            "num_urls": options.num_urls,
            "num_hosts": options.num_hosts,
            "num_parts": options.num_parts,
            "shares": SHARES,
        },
        "accounted": accounted,
        "killed_and_resumed": whole | {"workers": options.workers, "engine": options.engine},
        "killed_beside_whole": twins,
        "beside_the_other_engine": beside,
        "forecast": forecast and {"sample": options.num_urls // 50, "scores": scores, "stages": forecast["stages"]},
        "load": [round(load, 1) for load in os.getloadavg()],
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0 if is_good else 1


def _reset(port: int) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(f"http://127.0.0.1:{port}/-/reset", timeout=10).close()


def rank_urls(folder: Path, addresses: Sequence[str], rows_per_part: int) -> None:
    """Select all addresses, in their order, in parts of so many rows; the recipe lies beside."""
    from curation.commands.rank.stage import rank
    from curation.recipe.recipe import load_recipe

    num = len(addresses)
    faces = {"_id": addresses, "caption": [["A face."]] * num, "url": addresses, "box": ["[1, 2, 200, 240]"] * num}
    pq.write_table(pa.table(faces), folder / "facecaption.parquet")
    sizes = {"WIDTH": [SIDE_PX] * num, "HEIGHT": [SIDE_PX] * num, "SAMPLE_ID": list(range(num))}
    rest = {"NSFW": ["UNLIKELY"] * num, "similarity": [0.3] * num, "LICENSE": ["?"] * num}
    pq.write_table(pa.table({"URL": addresses, "TEXT": ["x"] * num} | sizes | rest), folder / "laion.parquet")
    (folder / "recipe.toml").write_text(RECIPE.format(rows_per_part=rows_per_part))
    rank(folder / "facecaption.parquet", folder / "laion.parquet", folder / "rank", load_recipe(folder / "recipe.toml"))


def _command(folder: Path, stage: str, *words: str) -> list[str]:
    program = str(Path(sys.executable).with_name("facecaptionhq"))
    return [program, stage, *words, "--recipe", str(folder / "recipe.toml")]


def _fetch_command(folder: Path, target: str, workers: int, engine: str) -> list[str]:
    own = ("--workers", str(workers), "--waiver", WAIVER, "--allow-loopback", "--engine", engine)
    return _command(folder, "fetch", str(folder / "rank"), str(folder / target), *own)


def _run(command: Sequence[str]) -> dict[str, float]:
    """Run a command; return its wall and CPU seconds, those of all processes that it starts included."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        cpu = _cpu_until(process, lambda: False)
        if process.returncode != 0:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said.read()[-3000:]}")
    return {"wall_seconds": round(time.monotonic() - started, 1), "cpu_seconds": round(cpu, 1)}


def _cpu_until(process: "subprocess.Popen[bytes]", is_enough: Callable[[], bool]) -> float:
    """Wait until a process ends or it is enough; return the CPU seconds of its whole tree so far."""
    tree = Tree(process.pid)
    while process.poll() is None and not is_enough():
        tree.look()
        time.sleep(POLL_S)
    return sum(tree.cpu_s(role) for role in ROLES)


def _killed(folder: Path, workers: int, num_parts: int, port: int, engine: str) -> dict[str, Any]:
    """Kill a run without warning once some parts are committed, then run the same command again."""
    command, target, started = _fetch_command(folder, "fetch", workers, engine), folder / "fetch", time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    cpu = _cpu_until(process, lambda: len(list(target.glob("*_stats.json"))) >= num_parts)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    code, num_before = process.wait(), len(list(target.glob("*_stats.json")))
    _reset(port)
    cpu += _run(command)["cpu_seconds"]
    manifest = json.loads((target / "manifest.json").read_text())
    seconds = time.monotonic() - started
    return {
        "exit_code_of_the_killed": code,
        "num_parts_when_killed": num_before,
        "wall_seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "num_arrived": manifest["num_kept"],
        "images_per_second": round(manifest["num_kept"] / seconds, 1),
        "images_per_cpu_second": round(manifest["num_kept"] / cpu, 1),
        "findings": manifest["extra"]["findings"],
    }


def _twins(folder: Path, addresses: Sequence[str], port: int, engine: str) -> dict[str, Any]:
    """Fetch some of the web twice, once killed and once not, and compare every byte."""
    rank_urls(folder, addresses, len(addresses) // 4)
    killed = _killed(folder, 0, 2, port, engine)
    (folder / "fetch").rename(folder / "killed")
    _reset(port)
    _run(_fetch_command(folder, "fetch", 0, engine))
    is_equal = _hashes(folder / "fetch") == _hashes(folder / "killed")
    return {
        "num_urls": len(addresses),
        "num_parts_when_killed": killed["num_parts_when_killed"],
        "exit_code_of_the_killed": killed["exit_code_of_the_killed"],
        "equal_bytes": is_equal,
    }


def _beside(folder: Path, workers: int, port: int, engine: str) -> dict[str, Any]:
    """Fetch all of it by another engine, without a kill, and hold the ledgers against each other, row by row."""
    _reset(port)
    took = _run(_fetch_command(folder, "beside", workers, engine))
    ours, theirs = (_rows(folder / target) for target in ("fetch", "beside"))
    apart = [(one, other) for one, other in zip(ours, theirs, strict=True) if one != other]
    named = [[route_of(one["url"]), one["reason"], other["reason"]] for one, other in apart[:10]]
    is_equal = _hashes(folder / "fetch") == _hashes(folder / "beside")
    return {
        **took,
        "engine": engine,
        "num_rows": len(theirs),
        "num_rows_apart": len(apart),
        "apart": named,
        "equal_files": is_equal,
    }


def _rows(target: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(target.glob("0*.parquet")) for row in pq.read_table(path).to_pylist()]


def _account(target: Path, addresses: Sequence[str]) -> dict[str, Any]:
    """Hold every row of the ledgers against the route of its URL."""
    rows = _rows(target)
    seen = Counter(row["url"] for row in rows)
    wrong = [row for row in rows if row["reason"] not in REASONS[route_of(row["url"])]]
    expected = {row["url"]: sha256_of(row["url"]) for row in rows if row["reason"] is None}
    num_other = sum(expected.get(row["url"]) not in (None, row["sha256"]) for row in rows)
    reasons = Counter(str(row["reason"] or "arrived") for row in rows)
    return {
        "num_rows": len(rows),
        "num_missing": len(set(addresses) - seen.keys()),
        "num_doubled": sum(count > 1 for count in seen.values()),
        "num_wrong": len(wrong),
        "num_own_pictures": sum(sha256 is not None for sha256 in expected.values()),
        "num_other_bytes": num_other,
        "wrong": [[route_of(row["url"]), row["reason"]] for row in wrong[:10]],
        "reasons": dict(sorted(reasons.items())),
    }


def _hashes(target: Path) -> dict[str, str]:
    files = [path for path in sorted(target.iterdir()) if path.suffix in (".tar", ".parquet")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _forecast(folder: Path, num_sampled: int) -> dict[str, Any]:
    own = ("--workers", "0", "--sample", str(num_sampled), "--waiver", WAIVER, "--allow-loopback", "--json")
    command = _command(folder, "plan", str(folder / "rank"), *own)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"plan ended with {done.returncode}: {done.stderr[-3000:]}")
    forecast: dict[str, Any] = json.loads(done.stdout)
    return forecast


def _score(folder: Path, forecast: dict[str, Any]) -> dict[str, Any]:
    """Run the rest of the job and hold the forecast against what came."""
    from curation.commands.plan.forecast import score
    from curation.dataset.manifest import read_manifest

    _run(_command(folder, "curate", str(folder / "fetch"), str(folder / "curate"), "--workers", "0"))
    _run(_command(folder, "pack", str(folder / "curate"), str(folder / "pack"), "--workers", "0"))
    manifests = {stage: read_manifest(folder / stage, stage) for stage in ("fetch", "pack")}
    return score(forecast, manifests)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.fetch")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num-urls", type=int, default=20_000)
    parser.add_argument("--num-hosts", type=int, default=2_000)
    parser.add_argument("--num-parts", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", choices=ENGINES, default="direct")
    parser.add_argument("--beside", choices=ENGINES, default="img2dataset")
    parser.add_argument("--without-forecast", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "fetch.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
