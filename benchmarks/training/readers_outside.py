"""Asks readers outside what they take of tars with JPEG, PNG and WEBP mixed, for each way to name the picture.

    python -m benchmarks.training.readers_outside [--out FILE]

Each reader gets 18 samples in two tars with the settings that its own documentation shows first, beside them such files
as `pack` leaves and, but for `no card`, the card that it writes. Figures are how many samples came back and how many of
these with pixels. Daft, which decodes nothing by itself, is asked where it is installed what it takes the picture for.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.provenance import commit, machine
from curation.commands.pack.card import CARD
from curation.dataset.tar import write_tar

NAMES: Mapping[str, Callable[[str], str]] = {
    "own suffix, no card": lambda image_format: image_format,
    "own suffix": lambda image_format: image_format,
    **{suffix: lambda _, suffix=suffix: suffix for suffix in ("jpg", "png", "webp", "img", "image", "pnm")},
}
"""What a picture is called -> its suffix, by its format."""
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
NUM_TARS, NUM_SAMPLES = 2, 9
TIMEOUT_S = 900


def write_folder(folder: Path, suffix_of: Callable[[str], str], *, has_card: bool) -> None:
    """Write tars, and beside them files such as `pack` leaves."""
    folder.mkdir(parents=True)
    for tar in range(NUM_TARS):
        members = []
        for number in range(tar * NUM_SAMPLES, (tar + 1) * NUM_SAMPLES):
            image_format = list(FORMATS)[number % len(FORMATS)]
            file, key = io.BytesIO(), f"{number:032x}"
            Image.new("RGB", (20 + number, 10), (number * 9, 50, 60)).save(file, FORMATS[image_format])
            fields = json.dumps({"uid": key, "format": image_format}).encode()
            members += [(f"{key}.{suffix_of(image_format)}", file.getvalue()), (f"{key}.json", fields)]
            members.append((f"{key}.txt", b"a caption"))
        write_tar(folder / f"{tar:05d}.tar", members)
        (folder / f"{tar:05d}_stats.json").write_text('{"num_seen": 9}')
    (folder / "manifest.json").write_text('{"stage": "pack"}')
    if has_card:
        (folder / "README.md").write_text(CARD)


def read_datasets(folder: Path) -> Iterable[Mapping[str, Any]]:
    """Read as `datasets` shows it."""
    import datasets

    return datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache"))  # type: ignore[no-any-return]


def read_webdataset(folder: Path) -> Iterable[Mapping[str, Any]]:
    """Read as `webdataset` shows it."""
    import webdataset

    tars = sorted(str(tar) for tar in folder.glob("*.tar"))
    return webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode("pil")  # type: ignore[no-any-return]


def read_ray(folder: Path) -> Iterable[Mapping[str, Any]]:
    """Read as Ray Data shows it."""
    import ray.data

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    return ray.data.read_webdataset(sorted(str(tar) for tar in folder.glob("*.tar"))).take_all()  # type: ignore[no-any-return]


READERS = {"datasets": read_datasets, "webdataset": read_webdataset, "ray": read_ray}
DAFT = "daft"


def daft_column(folder: Path) -> str:
    """Return what Daft says that the first column beside key, address, metadata and caption is; it reads lazily."""
    import daft

    schema = daft.read_webdataset(f"{folder}/*.tar").schema()
    return next(str(f.dtype) for f in schema if f.name not in ("__key__", "__url__", "json", "txt"))


def count(reader: str, folder: Path) -> dict[str, Any]:
    """Return how many samples came, and how many of them with pixels."""
    if reader == DAFT:
        return {"column": daft_column(folder)}
    rows = list(READERS[reader](folder))
    with_pixels = (any(isinstance(value, Image.Image | np.ndarray) for value in row.values()) for row in rows)
    return {"samples": len(rows), "pictures": sum(with_pixels)}


def answers(reader: str, folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return what a reader gives of each folder, or the last line of what it says."""
    found: list[dict[str, Any]] = []
    for folder in folders:
        try:
            found.append(count(reader, folder))
        except Exception as error:  # noqa: BLE001  whatever a stranger's library raises is the figure
            lines = [line for line in f"{type(error).__name__}: {error}".splitlines() if line.strip()]
            found.append({"error": next((line for line in lines if "ValueError" in line), lines[0])[:160]})
    return found


def asked(reader: str, folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the same, asked in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training.readers_outside", "--ask", reader, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def measure() -> dict[str, Any]:
    """Ask every reader about every name."""
    versions = {}
    for reader in (*READERS, DAFT):
        try:
            versions[reader] = version(reader)
        except PackageNotFoundError:
            continue
    table: dict[str, dict[str, Any]] = {name: {} for name in NAMES}
    with tempfile.TemporaryDirectory(prefix="readers-") as temporary:
        folders = [Path(temporary, f"{number}", "tars") for number in range(len(NAMES))]
        for folder, (name, suffix_of) in zip(folders, NAMES.items(), strict=True):
            write_folder(folder, suffix_of, has_card=not name.endswith("no card"))
        for reader in versions:
            for name, found in zip(NAMES, asked(reader, folders), strict=True):
                table[name][reader] = found
            print(reader, *(row[reader] for row in table.values()), sep="\n  ", flush=True)
    return {"num_samples": NUM_TARS * NUM_SAMPLES, "versions": versions, "pictures_by_name": table}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.readers_outside", description=__doc__)
    parser.add_argument("--out", type=Path, help="where the figures are kept, too")
    parser.add_argument("--ask", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.ask:
        print(json.dumps(answers(options.ask[0], [Path(folder) for folder in options.ask[1:]])))
        return 0
    os.environ |= {"HF_HUB_OFFLINE": "1", "RAY_raylet_start_wait_time_s": "300"}
    result = measure() | {"machine": machine(), "commit": commit()}
    print(json.dumps(result, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
