"""Forgets one picture by every spelling that names it, and searches every byte of every derived place for what is left.

    python -m benchmarks.faults.forget_sweep [--out benchmarks/results/forget_sweep.json]

One world holds a run with its report, a second pack in it, a pack elsewhere, the caches of training, scans and a copy
of a shard, leavings of dead runs, and exports that nobody registered. Each spelling forgets in a copy of its own. Exit
code 0 where no trace is left anywhere, nothing else went, every run verifies, and no spelling was missed.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from benchmarks.provenance import RESULTS, commit, machine
from cli import app
from curation.commands.pack.stage import pack
from curation.commands.report.write import write_report
from curation.commands.verify.check import verify
from curation.dataset.ledger import read_ledger
from curation.dataset.sample import uid_of_url
from curation.dataset.tar import read_samples
from curation.run.derived import CACHE
from facemakeup.data.index import build_index
from facemakeup.data.shards import ShardStore, find_shards
from facemakeup.data.sidecar import Name, Sidecar
from facemakeup.data.takedowns import leave_cards
from tests.curation.whole_run import ALONE, caption_of, final_url_of, picture, url_of, write_run

NUMBER = 10
"""The picture to forget: it was packed, and a redirect had served it."""
URL, FINAL_URL, UID = url_of(NUMBER), str(final_url_of(NUMBER)), uid_of_url(url_of(NUMBER))
HOST, PATH = "host3.example.org", "photos/000010.jpg"
VECTOR = hashlib.sha512(UID.encode()).digest()
"""The bytes of its identity vector, which no other file can hold by chance."""


def spellings(run: Path) -> dict[str, str]:
    """Return what names the picture -> the line that says so."""
    (row,) = (row for row in read_ledger(run / "fetch" / "00001.parquet").to_pylist() if row["uid"] == UID)
    (packed,) = (row for row in read_ledger(run / "pack" / "ledger.parquet").to_pylist() if row["uid"] == UID)
    return {
        "uid": UID,
        "uid, upper case, remark": f"{UID.upper()} # asked for by letter",
        "key": row["key"],
        "sha256": row["sha256"],
        "sha256 as packed": f"sha256:{packed['sha256'].upper()}",
        "phash": f"phash:{row['phash']}",
        "url": URL,
        "url, quoted": f'"{URL}"',
        "url, https": f"https://{HOST}/{PATH}",
        "url, no scheme": f"{HOST}/{PATH}",
        "url, last dot of the host": f"http://{HOST}./{PATH}",
        "url, upper-case host, port": f"HTTP://{HOST.upper()}:80/{PATH}",
        "url, user": f"http://me:secret@{HOST}/{PATH}",
        "url, fragment": f"{URL}#face",
        "url, escapes": f"http://{HOST}/photos/%30%3000%31%30%2ejpg",
        "url, dot segments": f"http://{HOST}/./x/../{PATH}",
        "final url": FINAL_URL,
        "final url, http": FINAL_URL.replace("https", "http"),
        "final url, escapes": FINAL_URL.replace("served", "%73erved"),
        "domain": f"domain:{HOST}",
        "domain, any case, dot": f"*.{HOST.title()}.",
        "domain of the final url": "cdn.example.net",
    }  # fmt: skip


def build(world: Path) -> None:
    """Write a run and everything that is made from one."""
    recipe = write_run(world / "run", num_images=24)
    shutil.rmtree(world / "run-input")  # metadata that came from outside is not ours to change
    write_report(world / "run")
    for folder in (world / "run" / "pack2", world / "far" / "packed"):
        pack(world / "run" / "curate", folder, recipe, ALONE)
    shards = find_shards([f"{world}/far/packed/*.tar"])
    index = build_index(shards, ShardStore(world / "train" / "shards", 1 << 30), world / "train" / "scans")
    leave_cards([shard.address for shard in shards], [(CACHE, world / "far" / "cache")])
    for kind in ("latents", "identities", "faces"):
        sidecar = Sidecar(world / "far" / "cache", kind, {"made_by": "this campaign"})
        for number, shard in enumerate(index.shards):
            keys = [index.key(row) for row in np.flatnonzero(index.rows.shard == number)]
            sidecar.write(shard.name, ((Name(key, 0), "ab" * 8, vector_of(key)) for key in keys))
    (world / "train" / "scans").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"key": [UID, "other"]}), world / "train" / "scans" / "old.parquet")
    shard = next(path for path in (world / "far" / "packed").glob("*.tar") if UID.encode() in path.read_bytes())
    (world / "train" / "shards").mkdir(parents=True, exist_ok=True)
    shutil.copy(shard, world / "train" / "shards" / "fetched.tar")
    for stage in ("fetch", "curate", "pack", "pack2"):
        (world / "run" / stage / "_tmp").mkdir(exist_ok=True)
        (world / "run" / stage / "_tmp" / "dead").write_text(f"{URL} {caption_of(NUMBER)}")
    exports = world / "exports"
    exports.mkdir()
    for stage in ("rank", "pack"):
        shutil.copy(world / "run" / stage / "ledger.parquet", exports / f"{stage}.parquet")
    shutil.copy(world / "run" / "fetch" / "00001.tar", exports / "handed-on.tar")
    shutil.copytree(world / "run" / "pack", world / "copied" / "pack")


def vector_of(uid: str) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Return a vector of 32 numbers that only this sample has."""
    return np.frombuffer(hashlib.sha512(uid.encode()).digest(), np.float16)


def traces_of(world: Path) -> dict[str, str]:
    """Return what must be gone, by what it is."""
    rows = [
        row for path in (world / "run").rglob("*.parquet") for row in pq.read_table(path, partitioning=None).to_pylist()
    ]
    own = [row for row in rows if row.get("uid") == UID]
    hashes = {str(row[name]) for row in own for name in ("sha256", "source_sha256", "phash") if row.get(name)}
    named = {"url": URL, "final url": FINAL_URL, "caption": caption_of(NUMBER), "alt text": f"number {NUMBER:06d}"}
    return {**named, **{f"hash {number}": value for number, value in enumerate(sorted(hashes))}}


def left_in(world: Path, traces: dict[str, str]) -> Iterator[str]:
    """Yield every trace in every file: its bytes, its rows where it is Parquet, its pictures where it is a tar."""
    image = picture(NUMBER)[-122:-2]
    for path in sorted(path for path in world.rglob("*") if path.is_file()):
        said = path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path, partitioning=None)
            said += (repr(table.to_pylist()) + repr(table.schema.metadata)).encode()
        found = [name for name, text in traces.items() if text.encode() in said]
        found += ["vector"] if VECTOR in said else []
        found += ["pixels"] if image in said else []
        if path.suffix == ".tar" and path.parent.parent.name != "cache":
            found += [f"member {s.key}" for s in read_samples(path) if UID in (s.key, s.metadata.get("uid"))]
        yield from (f"{path.relative_to(world)}: {name}" for name in found)


def kept(world: Path) -> set[str]:
    """Return which samples every place still holds."""
    packs = [world / "run" / "pack", world / "run" / "pack2", world / "far" / "packed", world / "copied" / "pack"]
    indices = ((place, read_ledger(place / "index.parquet")["uid"].to_pylist()) for place in packs)
    return {f"{place.relative_to(world)}:{uid}" for place, uids in indices for uid in uids}


def sweep(world: Path, folder: Path) -> list[dict[str, Any]]:
    """Forget by every spelling, each in a copy of the world."""
    results, traces, before = [], traces_of(world), kept(world)
    num_before = sum(1 for _ in left_in(world, traces))
    for name, line in spellings(world / "run").items():
        copy = folder / "copy"
        shutil.copytree(world, copy)
        (folder / "list.txt").write_text(f"\ufeff{line}\r\n", encoding="utf-8")
        also = [word for place in ("exports", "copied") for word in ("--also", str(copy / place))]
        started = time.monotonic()
        done = CliRunner().invoke(
            app, ["forget", str(copy / "run"), "--list", str(folder / "list.txt"), *also, "--json"]
        )
        seconds = time.monotonic() - started
        receipt = json.loads(done.stdout) if done.exit_code == 0 else {}
        left = list(left_in(copy, traces))
        gone = {one.rpartition(":")[2] for one in before - kept(copy)}
        others = len(gone - {UID}) if not name.startswith("domain") else 0
        runs = [copy / "run", copy / "far" / "packed", copy / "copied"]
        is_whole = all(verify(run, ALONE).ok for run in runs)
        results.append({
            "named_by": name, "exit_code": done.exit_code, "num_images": receipt.get("num_images"),
            "num_places_searched": len(receipt.get("searched", ())), "num_traces_before": num_before,
            "num_traces_left": len(left), "left": left[:10], "num_others_gone": others, "verifies": is_whole,
            "seconds": round(seconds, 1),
        })  # fmt: skip
        print(f"{name}: exit {done.exit_code}, {len(left)} of {num_before} traces left", file=sys.stderr)
        shutil.rmtree(copy)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and write its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.forget_sweep")
    parser.add_argument("--out", type=Path, default=RESULTS / "forget_sweep.json")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="forget-sweep-") as name:
        folder = Path(name)
        build(folder / "first")
        (folder / "first").rename(folder / "world")  # so that cards lead to the copy, not back to here
        results = sweep(folder / "world", folder)
    holds = all(
        one["exit_code"] == one["num_traces_left"] == one["num_others_gone"] == 0 and one["verifies"] for one in results
    )
    result = {
        "num_spellings": len(results), "num_traces_left": sum(one["num_traces_left"] for one in results),
        "holds": holds, "spellings": results, "minutes": round((time.monotonic() - started) / 60, 1),
        "machine": machine(), "commit": commit(),
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: result[name] for name in ("num_spellings", "num_traces_left", "holds")}))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
