"""What a picture costs to fetch, guards and all, beside plain img2dataset: alternating rounds in one process.

    FACECAPTIONHQ_GOLD=... python -m benchmarks.scale.fetch_engines FOLDER [--rounds 5] [--sides part plain]

Pictures lie on a server of its own process: small ones of 320 pixels and labelled photos as they are, ten a site, and
the small ones once more with a site for each, which is asked for robots.txt and tdmrep.json, too. The server keeps a
connection open until its client closes it, or asks it to.
`plain` is img2dataset as it comes, but that it does not encode anew: its own reader, tar, table and counts. `download`
is what `fetch` does until every URL has its outcome, with robots.txt and tdmrep.json of every site, `part` all of it:
look, ledger, tar; each with the direct engine, and as `..._img2dataset` through img2dataset's downloader. CPU time is
that of the fetching process; what the cell takes, in which pictures are decoded, stands beside it.
"""

import argparse
import asyncio
import gc
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.faults.hostile_web import picture
from benchmarks.process_tree import TICKS_PER_S
from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.web_process import web_process

NUM_PER_SITE = {"small": 10, "photos": 10, "alone": 1}
"""Kind of pictures -> how many of them a site has."""
Engine = Literal["direct", "img2dataset"]
SERVE = "import sys; from benchmarks.scale.fetch_engines import serve; serve(int(sys.argv[1]))"
NUM_SMALL, NUM_ALONE = 600, 300
SIDES = ("plain", "download", "download_img2dataset", "part", "part_img2dataset")
HEAD = (
    "HTTP/1.1 {status}\r\nDate: Mon, 05 Jan 2026 10:00:00 GMT\r\nServer: nginx\r\nContent-Type: image/jpeg\r\n"
    'Content-Length: {length}\r\nLast-Modified: Fri, 02 Jan 2026 10:00:00 GMT\r\nETag: "5f2a-{length}"\r\n'
    "Cache-Control: max-age=31536000\r\nAccept-Ranges: bytes\r\nAccess-Control-Allow-Origin: *\r\n"
    "Connection: {connection}\r\n\r\n"
)
"""What common servers send before a picture."""
DISALLOWED = ["noai", "noimageai", "noindex", "noimageindex"]
"""What img2dataset heeds as it comes."""


@dataclass(frozen=True)
class Kind:
    """Pictures of one size, where they are asked for."""

    name: str
    urls: list[str]
    rank: Path
    """The selection that names them."""


def measure(folder: Path, num_rounds: int, sides: Sequence[str] = SIDES) -> dict[str, Any]:
    """Return what a picture costs each side, by kind; the work lies in `folder`."""
    with web_process("-c", SERVE) as port:
        kinds = [_kind(folder, port, name) for name in NUM_PER_SITE]
        seen: dict[str, dict[str, list[dict[str, float]]]] = {kind.name: {side: [] for side in sides} for kind in kinds}
        for number in range(num_rounds + 1):  # the first is not counted: imports, caches, the cell
            for kind in kinds:
                for side in sides[::-1] if number % 2 else sides:
                    gc.collect()
                    took = _timed(side, kind, folder / "round")
                    seen[kind.name][side] += [took] if number else []
    return seen


def _timed(side: str, kind: Kind, folder: Path) -> dict[str, float]:
    """Fetch all pictures once; return microseconds of CPU a picture, of this process and of the cell."""
    from curation.sandbox.parent import CELL

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    cell, started, wall = _cpu_of(CELL.pid), time.process_time(), time.monotonic()
    num_arrived = ENGINES[side](kind, folder)
    spent, wall = time.process_time() - started, time.monotonic() - wall
    if num_arrived != len(kind.urls):
        raise SystemExit(f"{side}: {num_arrived} of {len(kind.urls)} pictures arrived")
    to_us = 1e6 / num_arrived
    return {"us": spent * to_us, "cell_us": (_cpu_of(CELL.pid) - cell) * to_us, "wall_us": wall * to_us}


def _plain(kind: Kind, folder: Path) -> int:
    from curation.commands.fetch.through_img2dataset import import_img2dataset

    module, resizer = import_img2dataset()
    from img2dataset.writer import WebDatasetSampleWriter

    wanted = folder / "urls.arrow"
    table = pa.table({"url": pa.array(kind.urls, pa.string())})
    with pa.OSFile(str(wanted), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    module.Downloader(
        sample_writer_class=WebDatasetSampleWriter,
        resizer=resizer(256, "no", resize_only_if_bigger=False, disable_all_reencoding=True),
        thread_count=32,
        save_caption=False,
        extract_exif=False,
        output_folder=str(folder),
        column_list=["url"],
        timeout=10,
        number_sample_per_shard=10_000,
        oom_shard_count=5,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format="jpg",
        retries=0,
        user_agent_token="facecaptionhq",
        disallowed_header_directives=DISALLOWED,
    ).download_shard((0, str(wanted)))
    statuses: list[str] = pq.read_table(folder / "00000.parquet", columns=["status"])["status"].to_pylist()
    return statuses.count("success")


def _download(kind: Kind, folder: Path, engine: Engine = "direct") -> int:
    from curation.commands.fetch.download import download
    from curation.recipe.settings import FetchSettings

    with download(kind.urls, folder / "out", FetchSettings(engine=engine), allow_loopback=True) as downloads:
        return sum(outcome.sha256 is not None for outcome in downloads.outcomes)


def _part(kind: Kind, folder: Path, engine: Engine = "direct") -> int:
    from curation.commands.fetch.part import FetchJob, fetch_part
    from curation.dataset.manifest import read_manifest
    from curation.recipe.settings import CurateSettings, DecodeLimits, FetchSettings

    (report,) = read_manifest(kind.rank).shards
    parts = {name: record for name, record in report.files.items() if name.startswith("0")}
    limits = DecodeLimits(), CurateSettings()
    settings = FetchSettings(engine=engine)
    job = FetchJob("00000", kind.rank, parts, folder / "fetch", settings, *limits, allow_loopback=True)
    job.target.mkdir()
    return fetch_part(job).num_kept


ENGINES: dict[str, Callable[[Kind, Path], int]] = {
    "plain": _plain,
    "download": _download,
    "download_img2dataset": partial(_download, engine="img2dataset"),
    "part": _part,
    "part_img2dataset": partial(_part, engine="img2dataset"),
}


def _cpu_of(pid: int | None) -> float:
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@cache
def _pictures() -> dict[str, list[bytes]]:
    """Return the pictures of each kind: small ones that were drawn, and every labelled photo."""
    photos = sorted(path for path in Path(os.environ["FACECAPTIONHQ_GOLD"], "images").rglob("*") if path.is_file())
    small = [picture(n) for n in range(NUM_SMALL)]
    return {"small": small, "photos": [path.read_bytes() for path in photos], "alone": small[:NUM_ALONE]}


def _kind(folder: Path, port: int, name: str) -> Kind:
    from benchmarks.scale.fetch import rank_urls

    num, num_sites = len(_pictures()[name]), len(_pictures()[name]) // NUM_PER_SITE[name]
    urls = [f"http://127.{1 + n % num_sites // 250}.{n % num_sites % 250}.1:{port}/{name}/{n}.jpg" for n in range(num)]
    (folder / name).mkdir()
    rank_urls(folder / name, urls, num)
    return Kind(name, urls, folder / name / "rank")


def serve(port: int) -> None:
    """Answer with pictures, and that there is nothing else, until the process ends."""
    pictures = _pictures()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            connection = "keep-alive"
            while connection == "keep-alive":
                head = await reader.readuntil(b"\r\n\r\n")
                connection = "close" if b"\r\nconnection: close\r\n" in head.lower() else "keep-alive"
                _, name, *number = head.split(b" ", 2)[1].decode().split("/")
                found = pictures[name][int(number[0].partition(".")[0])] if name in pictures else b""
                status = "200 OK" if found else "404 Not Found"
                writer.write(HEAD.format(status=status, length=len(found), connection=connection).encode() + found)
                await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "0.0.0.0", port, backlog=1024)
        print("ready", flush=True)
        async with server:
            await server.serve_forever()

    asyncio.run(run())


def compared(seen: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """Return the medians of the rounds, and how often plain img2dataset's cost each other side's fits into them."""
    told: dict[str, Any] = {}
    for kind, sides in seen.items():
        told[kind] = {
            side: {name: round(median(took[name] for took in rounds)) for name in rounds[0]}
            for side, rounds in sides.items()
        }
        for side in sides.keys() - {"plain"}:
            ratios = [plain["us"] / ours["us"] for plain, ours in zip(sides["plain"], sides[side], strict=True)]
            told[kind][side]["times_plain"] = round(median(ratios), 2)
            told[kind][side]["lowest_and_highest_round"] = [round(min(ratios), 2), round(max(ratios), 2)]
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.fetch_engines")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--out", type=Path, default=RESULTS / "fetch_engines.json")
    options = parser.parse_args(arguments)
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    figures = {
        "rounds": options.rounds,
        "kinds": compared(measure(options.folder, options.rounds, options.sides)),
        "bytes_per_picture": {name: sum(map(len, found)) // len(found) for name, found in _pictures().items()},
        "load": [round(load, 1) for load in os.getloadavg()],
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
