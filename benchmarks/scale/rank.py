"""Ranks synthetic metadata of the size of FaceCaption-15M and LAION-Face: exact counts, wall time, peak memory.

    python -m benchmarks.scale.rank FOLDER [--facecaption 15000000] [--laion 50000000] [--top 10000000]

Three runs, each in a process of its own: a small one against an independent oracle, a middle one beside the obvious way
in pandas, and the large one. FOLDER takes some 20 GB for the large one and is left as it is. Exit code 0 where every
count is the oracle's and the memory stays under 4 GB.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.provenance import RESULTS, commit, machine

MEMORY_LIMIT_KB = 4_000_000
NUM_LAION_PARTS = 8
RECIPE = """
schema_version = 1
name = "rank-benchmark"
[rank]
top = {top}
[[filters]]
name = "colour"
"""
URL_SQL = """
CASE WHEN h % 5 = 0 THEN 'http' ELSE 'https' END || '://' || CASE WHEN h % 89 = 1 THEN 'CDN' ELSE 'cdn' END || h % 60000
|| '.example' || h % 7 || '.com' || CASE WHEN h % 211 = 0 THEN ':8080' WHEN h % 211 = 1 THEN ':80' ELSE '' END
|| '/wp-content/uploads/' || 2008 + h % 13 || '/' || hex(h) || '-portrait.jpg'
|| CASE WHEN h % 11 = 0 THEN '?w=' || h % 900 ELSE '' END
"""
"""An address from the number `h`: some with capitals, ports, queries."""
LAION_SQL = """
SELECT CASE WHEN d % 499 = 0 THEN NULL WHEN d % 997 = 0 THEN 'data:image/png;base64,AAAA'
            ELSE {url} || CASE WHEN d % 97 = 0 THEN '#main' ELSE '' END END AS "URL",
    CASE WHEN d % 61 = 0 THEN NULL WHEN d % 307 = 0 THEN ' '
            ELSE 'Portrait number ' || h || ' of a person, stock photo' END AS "TEXT",
    CASE WHEN d % 127 = 0 THEN NULL WHEN d % 331 = 0 THEN 0 ELSE 200 + d % 2900 END::{number} AS "WIDTH",
    CASE WHEN d % 127 = 0 THEN NULL ELSE 200 + (d >> 16) % 2900 END::{number} AS "HEIGHT",
    'UNLIKELY' AS "NSFW", 0.28 + (d % 1000) / 10000.0 AS similarity, '?' AS "LICENSE", i::{number} AS "SAMPLE_ID"
FROM (SELECT i, hash(i + {seed}) AS d, hash(CASE WHEN i % 9 = 0 THEN i // 2 ELSE i END) AS h
      FROM range({first}, {last}) t(i))
"""
FACECAPTION_SQL = """
SELECT 'face-' || i AS _id,
    CASE WHEN d % 83 = 0 THEN [] WHEN d % 419 = 0 THEN [NULL]
         ELSE ['The woman has '
               || ['wavy hair', 'high cheekbones', 'arched eyebrows', 'a pointy nose'][1 + (d % 4)::BIGINT]
               || ' and a slightly open mouth. She is young, wears lipstick number ' || d % 100000
               || ', and looks attractive with bushy eyebrows and an oval face.'] END AS caption,
    CASE WHEN d % 401 = 0 THEN 'UNKNOWN' WHEN d % 1009 = 0 THEN NULL
         WHEN d % 31 = 0 THEN {url} || ', a portrait from the gallery' ELSE {url} END AS url,
    [] ::VARCHAR[] AS laion_caption,
    CASE WHEN d % 101 = 0 THEN '[12, 30, 12, 90]' WHEN d % 503 = 0 THEN 'null'
         WHEN d % 251 = 0 THEN '[1.5, 2, 200.25, 300]'
         ELSE '[' || d % 100 || ', ' || d % 90 || ', ' || 230 + d % 700 || ', ' || 230 + (d >> 8) % 700 || ']' END
         AS box
FROM (SELECT i, hash(i + {seed} + 1000000007) AS d,
          hash(CASE WHEN i % 12 = 0 THEN 3 * (i // 2) + 1 ELSE 3 * i + 1 END) AS h
      FROM range(0, {last}) t(i))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all three and write the figures."""
    options = _options(arguments)
    small = _exactness(options.folder / "small", 30_000, 100_000, 20_000)
    middle = _against_pandas(options.folder / "middle", options.middle, options.middle * 10 // 3)
    large = _ranked(options.folder / "large", options.facecaption, options.laion, options.top)
    is_good = small["equal"] and middle["equal"] and large["peak_kb"] < MEMORY_LIMIT_KB and large["conserved"]
    result = {
        "is_good": is_good,
        "against_oracle": small,
        "against_pandas": middle,
        "full_size": large,
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0 if is_good else 1


def write_metadata(folder: Path, num_facecaption: int, num_laion: int, seed: int = 0) -> None:
    """Write both sources; every other LAION part has float columns, as pandas makes them."""
    import duckdb

    (folder / "laion").mkdir(parents=True, exist_ok=True)
    database = duckdb.connect(config={"memory_limit": "1GB", "preserve_insertion_order": False})
    step = -(-num_laion // NUM_LAION_PARTS)
    for part, first in enumerate(range(0, num_laion, step)):
        last = min(first + step, num_laion)
        number = "DOUBLE" if part % 2 else "BIGINT"
        query = LAION_SQL.format(url=URL_SQL, first=first, last=last, number=number, seed=seed)
        _copy(database, query, folder / "laion" / f"part_{part:05d}.parquet")
    _copy(
        database, FACECAPTION_SQL.format(url=URL_SQL, last=num_facecaption, seed=seed), folder / "facecaption.parquet"
    )
    database.close()


def _copy(database: Any, query: str, path: Path) -> None:
    if not path.exists():
        temp = path.with_suffix(".part")
        database.execute(f"COPY ({query}) TO '{temp}' (FORMAT parquet, COMPRESSION snappy)")
        temp.rename(path)


def _exactness(folder: Path, num_facecaption: int, num_laion: int, top: int) -> dict[str, Any]:
    """Compare selection, reasons and faults with the oracle's."""
    from tests.curation.commands.rank.oracle import expect

    write_metadata(folder, num_facecaption, num_laion)
    faces = pq.read_table(folder / "facecaption.parquet").to_pylist()
    images = [row for path in sorted((folder / "laion").glob("*")) for row in pq.read_table(path).to_pylist()]
    expected = expect(faces, images, top)
    _measured(_rank, folder, top)
    manifest = json.loads((folder / "rank" / "manifest.json").read_text())
    parts = sorted(path for path in (folder / "rank").glob("*.parquet") if path.stem != "ledger")
    uids = [row["uid"] for part in parts for row in pq.read_table(part, columns=["uid"]).to_pylist()]
    faults = {source: +Counter(counts) for source, counts in manifest["extra"]["faults"].items()}
    for count in faults.values():
        count.pop("sample_id_float", None)
    is_equal = (
        uids == [uid for uid, _ in expected.selection]
        and manifest["rejected"]["rank"] == dict(expected.reasons)
        and faults == expected.faults
    )
    return {
        "num_facecaption": num_facecaption,
        "num_laion": num_laion,
        "equal": is_equal,
        "rejected": manifest["rejected"]["rank"],
        "faults": manifest["extra"]["faults"],
    }


def _against_pandas(folder: Path, num_facecaption: int, num_laion: int) -> dict[str, Any]:
    """Rank a middle size both ways in one run."""
    write_metadata(folder, num_facecaption, num_laion)
    top = num_facecaption // 2
    ours, theirs = _measured(_rank, folder, top), _measured(_obvious, folder, top)
    parts = sorted(path for path in (folder / "rank").glob("*.parquet") if path.stem != "ledger")
    urls = [url for part in parts for url in pq.read_table(part, columns=["url"])["url"].to_pylist()]
    obvious = pq.read_table(folder / "obvious.parquet", columns=["address"])["address"].to_pylist()
    return {
        "num_facecaption": num_facecaption,
        "num_laion": num_laion,
        "equal": urls == obvious,
        "ours": ours,
        "pandas": theirs,
        "times_faster": round(theirs["wall_seconds"] / ours["wall_seconds"], 2),
        "times_less_memory": round(theirs["peak_kb"] / ours["peak_kb"], 2),
    }


def _ranked(folder: Path, num_facecaption: int, num_laion: int, top: int) -> dict[str, Any]:
    """Rank the full size."""
    started = time.monotonic()
    write_metadata(folder, num_facecaption, num_laion)
    made = time.monotonic() - started
    figures = _measured(_rank, folder, top)
    manifest = json.loads((folder / "rank" / "manifest.json").read_text())
    extra = manifest["extra"]
    ledger = pq.ParquetFile(folder / "rank" / "ledger.parquet")
    sums: Counter[str] = Counter()
    for batch in ledger.iter_batches(1 << 20, columns=["num_facecaption_rows", "num_laion_rows"]):
        for name in batch.schema.names:
            sums[name] += sum(batch[name].to_numpy(zero_copy_only=False).tolist())
    is_conserved = (
        sums["num_facecaption_rows"] == extra["num_facecaption_rows"] == num_facecaption
        and sums["num_laion_rows"] == extra["num_laion_rows"] == num_laion
        and ledger.metadata.num_rows == manifest["num_seen"]
    )
    return {
        "num_facecaption": num_facecaption,
        "num_laion": num_laion,
        "top": top,
        "input_bytes": sum(path.stat().st_size for path in folder.glob("**/*.parquet") if "rank" not in path.parts),
        "seconds_to_make_the_input": round(made, 1),
        **figures,
        "conserved": is_conserved,
        "num_seen": manifest["num_seen"],
        "num_kept": manifest["num_kept"],
        "rejected": manifest["rejected"],
        "cut": extra["cut"],
        "faults": extra["faults"],
    }


def _rank(folder: Path, top: int) -> None:
    from curation.commands.rank.stage import rank
    from curation.recipe.recipe import load_recipe

    shutil.rmtree(folder / "rank", ignore_errors=True)
    (folder / "recipe.toml").write_text(RECIPE.format(top=top))
    rank(folder / "facecaption.parquet", folder / "laion", folder / "rank", load_recipe(folder / "recipe.toml"))


def _obvious(folder: Path, top: int) -> None:
    """Do what a competent reader would write: pandas, a function per URL, a merge, a sort."""
    import pandas as pd

    from curation.commands.rank.cleaning import face_box, usable_url

    faces = pd.read_parquet(folder / "facecaption.parquet")
    images = pd.concat([pd.read_parquet(path) for path in sorted((folder / "laion").glob("*"))], ignore_index=True)
    faces["address"] = [usable_url(None if url is None else url.split(", ")[0]) for url in faces["url"]]
    faces["box"] = [face_box(box) for box in faces["box"]]
    images["address"] = [usable_url(url) for url in images["URL"]]
    images["area"] = images["WIDTH"].where(images["WIDTH"] >= 1) * images["HEIGHT"].where(images["HEIGHT"] >= 1)
    images = images.dropna(subset=["address"]).sort_values(
        ["address", "area", "SAMPLE_ID"], ascending=[True, False, True]
    )
    images = images.drop_duplicates("address")
    grouped = faces.dropna(subset=["address"]).groupby("address").agg({"_id": list, "caption": list, "box": list})
    joined = images.dropna(subset=["area"]).merge(grouped, left_on="address", right_index=True)
    joined["uid"] = [_uid(address) for address in joined["address"]]
    joined = joined.sort_values(["area", "uid"], ascending=[False, True]).head(top)
    joined[["uid", "address", "TEXT", "WIDTH", "HEIGHT"]].to_parquet(folder / "obvious.parquet")


def _uid(address: str) -> str:
    from curation.dataset.sample import uid_of_url

    return uid_of_url(address)


def _measured(work: Callable[[Path, int], None], folder: Path, top: int) -> dict[str, Any]:
    """Run `work` in a fresh process; return wall and CPU seconds and the peak of its resident memory in kB."""
    context = get_context("spawn")
    figures = context.SimpleQueue()
    process = context.Process(target=_in_child, args=(work, folder, top, figures))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"{work.__name__} in {folder} ended with {process.exitcode}")
    return dict(figures.get())


def _in_child(work: Callable[[Path, int], None], folder: Path, top: int, figures: Any) -> None:
    started = time.monotonic()
    work(folder, top)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures.put(
        {
            "wall_seconds": round(time.monotonic() - started, 1),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_kb": usage.ru_maxrss,
            "load_before_and_after": [round(load, 1) for load in os.getloadavg()[:2]],
        }
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.rank")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--facecaption", type=int, default=15_000_000)
    parser.add_argument("--laion", type=int, default=50_000_000)
    parser.add_argument("--top", type=int, default=10_000_000)
    parser.add_argument("--middle", type=int, default=450_000, help="FaceCaption rows of the run beside pandas")
    parser.add_argument("--out", type=Path, default=RESULTS / "rank.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
