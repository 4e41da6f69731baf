"""Sends very many real photos through one worker and its cell, with real networks, and notes what memory they take.

    python -m benchmarks.scale.soak [--pictures 5000] [--shard-pictures 100] [--recipe facecaptionhq-4m]
        [--photos FOLDER] [--side 320] [--out benchmarks/results/soak.json]

Photos are those of FACECAPTIONHQ_GOLD, again and again, in as many shards as it takes: links to one tar, so each
picture is decoded and measured every time. For the 100,000 of a long soak: `--pictures 100000 --shard-pictures 1000`;
`--side` shrinks the photos first, so that it takes hours and not a night.
"""

import argparse
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks.provenance import RESULTS, commit, machine
from curation.commands.curate.stage import curate
from curation.dataset.manifest import ShardReport
from curation.dataset.tar import write_tar
from curation.recipe.recipe import load_recipe
from curation.run.runner import Outcome, Spread
from curation.sandbox.parent import CELL

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class Curve:
    """Notes memory after every shard."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.num_pictures, self.points, self.cpu_s = 0, list[dict[str, Any]](), dict[int, float]()
        self._started = time.monotonic()

    def __call__(self, outcome: Outcome) -> None:
        """Note one shard."""
        assert isinstance(outcome, ShardReport), outcome
        self.num_pictures += outcome.num_seen
        cell = CELL.pid
        self.cpu_s |= {pid: _cpu_s(pid) for pid in (os.getpid(), cell) if pid is not None}
        self.points.append(
            {
                "pictures": self.num_pictures,
                "worker_mib": _mib(os.getpid(), 1),
                "cell_mib": None if cell is None else _mib(cell, 1),
                "cell_address_mib": None if cell is None else _mib(cell, 0),
                "seconds": round(time.monotonic() - self._started, 1),
            }
        )

    def slope(self, name: str) -> float | None:
        """Return MiB per 1,000 pictures over the second half of the curve, by least squares."""
        late = [point for point in self.points[len(self.points) // 2 :] if point[name] is not None]
        if len(late) < 3:
            return None
        xs, ys = ([point[key] for point in late] for key in ("pictures", name))
        return round(1000 * float(np.polyfit(xs, ys, 1)[0]), 3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak and write its curve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.soak", description=__doc__)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--shard-pictures", type=int, default=100)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--photos", type=Path, default=Path(os.environ.get("FACECAPTIONHQ_GOLD", "gold")))
    parser.add_argument("--side", type=int, help="pixels of the longer side that photos are shrunk to, as JPEG")
    parser.add_argument("--out", type=Path, default=RESULTS / "soak.json")
    chosen = parser.parse_args(arguments)
    recipe, curve = load_recipe(chosen.recipe), Curve()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        num_shards = -(-chosen.pictures // chosen.shard_pictures)
        write_source(Path(name, "in"), chosen.photos, num_shards, chosen.shard_pictures, chosen.side)
        manifest = curate(Path(name, "in"), Path(name, "out"), recipe, Spread(num_workers=0), curve)
    result = {
        "recipe": chosen.recipe,
        "side": chosen.side,
        "num_pictures": manifest.num_seen,
        "num_kept": manifest.num_kept,
        "rejected": manifest.rejected,
        "num_cells": len(curve.cpu_s) - 1,
        "cpu_s": round(sum(curve.cpu_s.values()), 1),
        "mib_per_1000_pictures_in_the_second_half": {
            key: curve.slope(key) for key in ("worker_mib", "cell_mib", "cell_address_mib")
        },
        "curve": curve.points,
        "machine": machine(),
        "commit": commit(),
    }
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "curve"}, indent=2))
    return 0


def write_source(folder: Path, photos: Path, num_shards: int, num_pictures: int, side: int | None = None) -> None:
    """Write one tar of so many photos, as often as there are, and link it under the name of every shard."""
    folder.mkdir()
    files = sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    random.Random(0).shuffle(files)
    if not files:
        raise SystemExit(f"{photos}: no photos; give --photos, or set FACECAPTIONHQ_GOLD")
    pictures = [(number, files[number % len(files)]) for number in range(num_pictures)]
    tar = folder / "000000.tar"
    write_tar(tar, ((f"{number:06d}{_suffix(file, side)}", _bytes(file, side)) for number, file in pictures))
    for shard in range(1, num_shards):
        (folder / f"{shard:06d}.tar").hardlink_to(tar)


def _suffix(file: Path, side: int | None) -> str:
    return file.suffix.lower() if side is None else ".jpg"


def _bytes(file: Path, side: int | None) -> bytes:
    """Return a photo's bytes, as they are or shrunk until its longer side has `side` pixels."""
    if side is None:
        return file.read_bytes()
    with Image.open(file) as opened, io.BytesIO() as small:
        image = ImageOps.exif_transpose(opened).convert("RGB")
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.save(small, "JPEG", quality=90)
        return small.getvalue()


def _cpu_s(pid: int) -> float:
    """Return user and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _mib(pid: int, column: int) -> float:
    """Return what /proc says of a process: column 0 its address space, 1 what is resident."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[column])
    return round(pages * resource.getpagesize() / (1 << 20), 1)


if __name__ == "__main__":
    sys.exit(main())
