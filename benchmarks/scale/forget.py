"""Forgets a thousand requests in a run of a hundred thousand images, then looks for what could be left of them.

    python -m benchmarks.scale.forget [--num-images 100000] [--num-requests 1000] [--out benchmarks/results/forget.json]

The run is ranked, curated and packed for real; the pictures are small and drawn, so that the time is that of records
and tars and not of a disk. Exit code 0 where nothing is left, every stage that is run again readmits nothing and
redoes no shard, and the run verifies.
"""

import argparse
import hashlib
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq

from benchmarks.provenance import RESULTS, commit, machine
from curation.commands.curate.stage import curate
from curation.commands.fetch.stage import fetch
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import Request, read_requests
from curation.commands.pack.stage import pack
from curation.commands.rank.stage import rank
from curation.commands.verify.check import verify
from curation.commands.why.story import why
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_manifest
from curation.dataset.tar import read_samples
from curation.recipe.recipe import load_recipe
from tests.curation.whole_run import ALONE, WAIVER, caption_of, url_of, write_run

T = TypeVar("T")
NUM_SHARD_SAMPLES = 1000
TOKENS = re.compile(r"http://host\d+\.example\.org/photos/\d{6}\.jpg|\b[0-9a-f]{64}\b|person number \d{6}")
WHOLE_TABLES = ("fetch/findings.parquet", "pack/index.parquet", "pack/ledger.parquet")
"""Written anew by every run of a stage, with the same bytes."""
STAGES = ("rank", "fetch", "curate", "pack")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and write its figures."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="forget-") as folder:
        run = Path(folder, "run")
        _, build_s = timed(lambda: write_run(run, options.num_images, NUM_SHARD_SAMPLES, NUM_SHARD_SAMPLES))
        num_bytes = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
        requests = ask(run, options.num_images, options.num_requests, options.seed)
        whole, verify_s = timed(lambda: verify(run, ALONE).ok)
        stories, why_s = timed(lambda: why(run, url_of(options.num_images // 2)))
        cpu_before = time.process_time()
        (_, receipt), forget_s = timed(lambda: forget(run, requests))
        forget_cpu_s = time.process_time() - cpu_before
        gone = forgotten_tokens(run, options.num_images)
        left = sorted(set(tokens(run)) & gone)
        redone, readmitted, rerun_s = run_again(run)
        whole_after = verify(run, ALONE).ok
    result = {
        "campaign": {**vars(options), "out": options.out.name, "num_hosts_asked": _count(requests, "domain")},
        "num_bytes": num_bytes,
        **_num_tars(receipt),
        "num_images_forgotten": receipt["num_images"],
        "rows_buried": receipt["rows_buried"],
        "samples_removed": receipt["samples_removed"],
        "num_files_rewritten": len(receipt["rewritten"]),
        "num_tokens_looked_for": len(gone),
        "num_tokens_left": len(left),
        "num_readmitted": readmitted,
        "shards_redone": redone,
        "is_whole_before_and_after": whole and whole_after,
        "num_stories": len(stories),
        "seconds": {
            "build": round(build_s, 1),
            "verify": round(verify_s, 1),
            "why": round(why_s, 2),
            "forget": round(forget_s, 1),
            "forget_on_cpu": round(forget_cpu_s, 1),
            "run_every_stage_again": round(rerun_s, 1),
        },
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0 if whole and whole_after and not left and not readmitted and not redone else 1


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what `work` gives, and how many seconds it took."""
    started = time.monotonic()
    value = work()
    return value, time.monotonic() - started


def ask(run: Path, num_images: int, num_requests: int, seed: int) -> tuple[Request, ...]:
    """Return requests of every kind: mostly addresses, and one in fifty for a domain of ten pictures."""
    numbers = random.Random(seed).sample(range(1000, num_images), num_requests)
    rows = {row["url"]: row for path in ledgers(run / "fetch") for row in read_ledger(path).to_pylist()}
    lines = []
    for place, number in enumerate(numbers):
        row = rows[url_of(number)]
        kind = "domain" if place % 50 == 0 else ("url", "url", "url", "key", "uid", "sha256")[place % 6]
        host = url_of(number).split("/")[2]
        value = {"domain": host, "url": row["url"], "key": row["key"], "uid": row["uid"], "sha256": row["sha256"]}[kind]
        lines.append(f"{kind}:{value}" if value is not None else f"url:{row['url']}")
    return read_requests(lines, "drawn")


def ledgers(folder: Path) -> list[Path]:
    """Return the ledgers of a stage that keeps one per shard."""
    return [report.file(folder, ".parquet") for report in read_manifest(folder).shards]


def forgotten_tokens(run: Path, num_images: int) -> set[str]:
    """Return the addresses, captions and contents that must be nowhere, by who is a tombstone in rank's ledger."""
    table = read_ledger(run / "rank" / "ledger.parquet", ["uid", "reason"]).to_pylist()
    uids = {row["uid"] for row in table if row["reason"] == "forgotten"}
    numbers = [n for n in range(num_images + 3) if hashlib.sha256(url_of(n).encode()).hexdigest()[:32] in uids]
    captions = {caption_of(number)[len("The face of ") :].split(" looks")[0] for number in numbers}
    return {url_of(number) for number in numbers} | captions | contents_of(numbers)


def contents_of(numbers: Sequence[int]) -> set[str]:
    """Return the sha256 of pictures as they were drawn."""
    from tests.curation.whole_run import picture

    return {hashlib.sha256(picture(number)).hexdigest() for number in numbers}


def tokens(run: Path) -> Iterator[str]:
    """Yield every address, caption and sha256 that any file of a run says, and the sha256 of every picture in it."""
    for path in sorted(run.rglob("*")):
        if path.suffix == ".parquet":
            yield from TOKENS.findall(repr(pq.read_table(path, partitioning=None).to_pylist()))
        if path.suffix == ".tar":
            yield from (hashlib.sha256(sample.image_bytes).hexdigest() for sample in read_samples(path))
        if path.is_file():
            yield from TOKENS.findall(path.read_bytes().decode("latin-1"))


def run_again(run: Path) -> tuple[list[str], int, float]:
    """Run every stage again; return the tars and ledgers of shards that were redone, how many came back, seconds."""
    inputs = run.parent / "run-input"
    recipe = load_recipe(inputs / "recipe.toml")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.suffix in (".tar", ".parquet")}
    kept = kept_uids(run)
    started = time.monotonic()
    rank(inputs / "facecaption.parquet", inputs / "laion.parquet", run / "rank", recipe)
    fetch(run / "rank", run / "fetch", recipe, ALONE, waiver=WAIVER)
    curate(run / "fetch", run / "curate", recipe, ALONE)
    pack(run / "curate", run / "pack", recipe, ALONE)
    seconds = time.monotonic() - started
    redone = [path.relative_to(run).as_posix() for path, mtime in before.items() if path.stat().st_mtime_ns != mtime]
    shards = [name for name in redone if name not in WHOLE_TABLES]
    return shards, len(kept_uids(run) - kept), seconds


def kept_uids(run: Path) -> set[str]:
    """Return what `pack` holds."""
    return set(read_ledger(run / "pack" / "index.parquet", ["uid"])["uid"].to_pylist())


def _num_tars(receipt: dict[str, Any]) -> dict[str, int]:
    tars = [entry["file"] for entry in receipt["rewritten"] if entry["file"].endswith(".tar")]
    return {f"{stage}_tars_rewritten": sum(name.startswith(f"{stage}/") for name in tars) for stage in STAGES[1:]}


def _count(requests: Sequence[Request], kind: str) -> int:
    return sum(request.kind == kind for request in requests)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.forget")
    parser.add_argument("--num-images", type=int, default=100_000)
    parser.add_argument("--num-requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path, default=RESULTS / "forget.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
