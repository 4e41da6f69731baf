"""A whole run for what works on finished ones: ranked, curated and packed for real; only the network is left out."""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.commands.curate.stage import curate
from curation.commands.fetch.rows import LEDGER_SCHEMA
from curation.commands.fetch.stage import fetch
from curation.commands.fetch.work import fetch_work, fetch_work_id
from curation.commands.pack.stage import pack
from curation.commands.rank.stage import rank
from curation.dataset.ledger import base_row, count_rejections, write_ledger
from curation.dataset.manifest import ShardReport, read_manifest, write_report
from curation.dataset.stages import FETCH
from curation.dataset.tar import write_tar
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from curation.run.target import claim
from curation.storage.publish import digest, publish
from tests.curation.shards import colourful, grey, recipe_from

ALONE = Spread(num_workers=0)
WAIVER = "pictures that the test draws itself"
RECIPE = """
schema_version = 1
name = "whole"
[rank]
top = {top}
rows_per_part = {rows_per_part}
[[filters]]
name = "colour"
keep.mean_channel_std = {{ min = 2.0 }}
[pack]
num_shard_samples = {num_shard_samples}
"""
FACE_SCHEMA = {"_id": pa.string(), "caption": pa.list_(pa.string()), "url": pa.string(), "box": pa.string()}


def url_of(number: int) -> str:
    """Return where picture `number` came from: the first thousand from seven hosts, then ten from each."""
    host = number % 7 if number < 1000 else number // 10
    return f"http://host{host}.example.org/photos/{number:06d}.jpg"


def final_url_of(number: int) -> str | None:
    """Return where a redirect served picture `number` from: one in ten was."""
    return f"https://cdn.example.net/served/{number:06d}.jpg" if number % 10 == 0 else None


def caption_of(number: int) -> str:
    """Return the caption of picture `number`, which no other picture has."""
    return f"The face of person number {number:06d} looks to the left."


def write_run(run: Path, num_images: int = 24, rows_per_part: int = 10, num_shard_samples: int = 4) -> Recipe:
    """Write rank, fetch, curate and pack of a run; one in six pictures is grey, one in nine never arrives."""
    text = RECIPE.format(top=num_images, rows_per_part=rows_per_part, num_shard_samples=num_shard_samples)
    recipe = recipe_from(run.parent / f"{run.name}-input", text)
    inputs = write_metadata(run.parent / f"{run.name}-input", num_images)
    rank(*inputs, run / "rank", recipe)
    fetch_by_hand(run / "rank", run / "fetch", recipe)
    curate(run / "fetch", run / "curate", recipe, ALONE)
    pack(run / "curate", run / "pack", recipe, ALONE)
    return recipe


def write_metadata(folder: Path, num_images: int, urls: Sequence[str] = ()) -> tuple[Path, Path]:
    """Write FaceCaption and LAION rows of `num_images` pictures, larger first, and of three more below the cut.

    `urls` are the addresses of all of them, where they are not those of `url_of`.
    """
    numbers = range(len(urls) or num_images + 3)
    urls = urls or [url_of(number) for number in numbers]
    faces = {
        "_id": [f"f{n}" for n in numbers],
        "caption": [[caption_of(n)] for n in numbers],
        "url": list(urls),
        "box": ["[8, 8, 56, 56]" for _ in numbers],
    }
    images = {
        "URL": list(urls),
        "TEXT": [f"alt text of number {n:06d}" for n in numbers],
        "WIDTH": [float(2_000_000 - n) for n in numbers],
        "HEIGHT": [64.0 for _ in numbers],
        "NSFW": ["UNLIKELY" for _ in numbers],
        "similarity": [0.3 for _ in numbers],
        "LICENSE": ["?" for _ in numbers],
        "SAMPLE_ID": list(numbers),
    }
    paths = folder / "facecaption.parquet", folder / "laion.parquet"
    pq.write_table(pa.table(faces, schema=pa.schema(list(FACE_SCHEMA.items()))), paths[0])
    pq.write_table(pa.table(images), paths[1])
    return paths


def fetch_by_hand(source: Path, target: Path, recipe: Recipe) -> None:
    """Write what `fetch` writes, with pictures that are drawn here instead of downloaded."""
    selection = read_manifest(source, "rank")
    settings = recipe.file.fetch
    work = fetch_work(selection.work_digest, settings, recipe.file.decode, {})
    claim(target, FETCH, work)
    for name, record in sorted(selection.shards[0].files.items()):
        if name == "ledger.parquet":
            continue
        shard = Path(name).stem
        entries: list[dict[str, Any]] = []
        tar, ledger = target / f"{shard}.tar", target / f"{shard}.parquet"
        rows = pq.read_table(source / name, partitioning=None).to_pylist()

        def write(temp: Path, rows: Any = rows, entries: Any = entries) -> None:
            write_tar(temp, _members(rows, entries))

        def write_rows(temp: Path, entries: Any = entries) -> None:
            table = pa.Table.from_pylist(entries, schema=LEDGER_SCHEMA)
            write_ledger(temp, table.to_pylist(), LEDGER_SCHEMA, {"stage": "fetch", "recipe_digest": digest("x")})

        files = {tar.name: publish(tar, write), ledger.name: publish(ledger, write_rows)}
        num_kept = sum(entry["kept"] for entry in entries)
        work_id = fetch_work_id(shard, record.sha256, settings, recipe.file.decode, {})
        report = ShardReport(shard, work_id, len(entries), num_kept, count_rejections(entries), files)
        write_report(target, report)
    fetch(source, target, recipe, ALONE, waiver=WAIVER)  # every part is there: nothing is asked for


def _members(rows: list[dict[str, Any]], entries: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    for row in rows:
        number = int(row["url"][-10:-4])
        arrived = number % 9 != 4
        image_bytes = picture(number) if arrived else b""
        sha256 = hashlib.sha256(image_bytes).hexdigest() if arrived else None
        entries.append(
            base_row(
                row["uid"], row["key"], url=row["url"], sha256=sha256, width=row["width"], height=row["height"],
                rejected_by=None if arrived else "fetch", reason=None if arrived else "http_404",
            ) | {"final_url": final_url_of(number), "phash": f"{number + 1:016x}" if arrived else None}
        )  # fmt: skip
        if arrived:
            yield f"{row['key']}.jpg", image_bytes
            yield f"{row['key']}.json", json.dumps(_metadata(row, str(sha256)), sort_keys=True).encode()
            yield f"{row['key']}.txt", row["caption"].encode()


def _metadata(row: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    return {
        "uid": row["uid"],
        "url": row["url"],
        "sha256": sha256,
        "facecaptions": json.loads(row["facecaptions"]),
        "crawled_width": 64,
        "crawled_height": 64,
    }


def picture(number: int) -> bytes:
    """Return picture `number`: one in six is grey."""
    return grey(number) if number % 6 == 1 else colourful(number)


def files_of(run: Path) -> dict[str, bytes]:
    """Return the content of every file of a run by its path within it, without leases, times and temporaries."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and "_lease" not in path.parts
    }


def flip_a_bit(path: Path, random_numbers: random.Random) -> None:
    """Change one bit of a file in place."""
    content = bytearray(path.read_bytes())
    place = random_numbers.randrange(len(content) * 8)
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(bytes(content))
