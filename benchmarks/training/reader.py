"""Reads the same shards with our reader, webdataset and datasets in one run: samples/s, and what resuming costs.

    python -m benchmarks.training.reader TARS [--num-samples 2000] [--repeats 5] [--out benchmarks/results/reader.json]

TARS is a folder that `pack` wrote (`python -m demo.run --out build/demo` makes one). Its JPEG samples are written
again and again under new keys until there are enough of them, so the photos are few and real. Every reader runs in
one process on warm files, round after round in turn; figures are medians with their range.

`bytes` yields the members of a sample undecoded, `pixels` decodes the picture with Pillow to an RGB array. What we do
for training beyond that (the decode gate, sha256, crop, aligned face, pose map) is measured on its own.
"""

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.provenance import RESULTS, commit, machine
from curation.dataset.tar import read_samples, write_tar
from curation.recipe.settings import DecodeLimits
from facemakeup.data.index import TarIndex, build_index
from facemakeup.data.members import read_members
from facemakeup.data.order import StreamOrder
from facemakeup.data.prepare import view_of
from facemakeup.data.raw_sample import raw_sample
from facemakeup.data.shards import ShardStore, find_shards
from facemakeup.faces.align import clip_pixels
from facemakeup.faces.crop import Size
from facemakeup.faces.posemap import draw
from facemakeup.train_config import CropSettings

NUM_SHARD_SAMPLES = 200
SEED = 0
RESUME_AT = 0.75
SHUFFLE_BUFFER = 200
Reader = Callable[[], Iterator[Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the figures, and return 0 where our resumed stream equals the uninterrupted one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.reader", description=__doc__)
    parser.add_argument("tars", type=Path)
    parser.add_argument("--num-samples", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "reader.json")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="reader-") as folder:
        tars = write_shards(options.tars, Path(folder, "tars"), options.num_samples)
        result = measure(tars, Path(folder), options.num_samples, options.repeats)
    result |= {"load_average_1_min": round(os.getloadavg()[0], 1), "machine": machine(), "commit": commit()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0 if result["resume"]["ours"]["is_exact"] else 1


def write_shards(source: Path, target: Path, num_samples: int) -> list[str]:
    """Write `num_samples` samples made of the source's JPEGs, and return the tars' paths."""
    samples = (sample for path in sorted(source.glob("*.tar")) for sample in read_samples(path))
    photos = [sample for sample in samples if sample.metadata["format"] == "jpg"]
    target.mkdir()
    paths = []
    numbered = enumerate(islice(cycle(photos), num_samples))
    for shard in range(-(-num_samples // NUM_SHARD_SAMPLES)):
        members = []
        for number, sample in islice(numbered, NUM_SHARD_SAMPLES):
            fields = json.dumps({**sample.metadata, "uid": f"{number:032x}"}, sort_keys=True).encode()
            key = f"{number:032x}"
            members += [(f"{key}.jpg", sample.image_bytes), (f"{key}.json", fields), (f"{key}.txt", b"a caption")]
        paths.append(str(target / f"jpg-{shard:05d}.tar"))
        write_tar(Path(paths[-1]), members)
    return paths


def measure(tars: list[str], folder: Path, num_samples: int, repeats: int) -> dict[str, Any]:
    """Return every figure."""
    store = ShardStore(folder / "shards", 1 << 30)
    started = time.perf_counter()
    index = build_index(find_shards(tars), store, folder / "scans")
    scan_s = time.perf_counter() - started
    readers = {
        "bytes": {
            "ours": lambda: ours(index, store),
            "ours_in_order": lambda: ours_in_order(index, store),
            "webdataset": lambda: webdataset_samples(tars),
            "datasets": lambda: datasets_samples(tars),
        },
        "pixels": {
            "ours": lambda: map(_ours_decoded, ours(index, store)),
            "ours_in_order": lambda: map(_ours_decoded, ours_in_order(index, store)),
            "webdataset": lambda: map(_webdataset_decoded, webdataset_samples(tars)),
            "datasets": lambda: map(_datasets_decoded, datasets_samples(tars)),
        },
        "for_training": {"ours": lambda: map(_prepared, ours(index, store))},
    }
    return {
        "num_samples": num_samples,
        "num_shards": len(tars),
        "mean_sample_bytes": int(index.rows.num_bytes.mean()),
        "repeats": repeats,
        "order": {
            "ours": "block shuffle over the whole set, blocks of 200, window of 4",
            "ours_in_order": "in order of the tars",
            "webdataset": "in order of the tars",
            "datasets": "in order of the tars",
        },
        "index_scan_seconds": round(scan_s, 3),
        "samples_per_second": {what: _rates(group, num_samples, repeats) for what, group in readers.items()},
        "resume": resume(index, store, tars, num_samples),
    }


def _rates(readers: dict[str, Reader], num_samples: int, repeats: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    names = list(readers)
    for turn in range(repeats + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody is always first
            reader = readers[name]
            started = time.perf_counter()
            num_read = sum(1 for _ in reader())
            elapsed = time.perf_counter() - started
            if num_read != num_samples:
                raise SystemExit(f"{name} read {num_read} of {num_samples} samples")
            if turn > 0:  # the first round warms files and imports
                seconds[name].append(elapsed)
    return {
        name: {
            "median": round(num_samples / statistics.median(times), 1),
            "slowest": round(num_samples / max(times), 1),
            "fastest": round(num_samples / min(times), 1),
        }
        for name, times in seconds.items()
    }


def ours(index: TarIndex, store: ShardStore, first: int = 0) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield key and members of one epoch in shuffled order, from position `first` on."""
    order = StreamOrder(len(index), 1, block=200, window=4, seed=SEED)
    for position in range(first, len(index)):
        place = order.seat(position, 0)
        key = index.key(place.row)
        yield key, read_members(store, *index.where(place.row), key)


def ours_in_order(index: TarIndex, store: ShardStore) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield key and members in order of the tars, as the others do: pictures of like size then follow one another."""
    for row in range(len(index)):
        key = index.key(row)
        yield key, read_members(store, *index.where(row), key)


def webdataset_samples(tars: list[str]) -> Iterator[dict[str, Any]]:
    """Yield undecoded samples of webdataset in order."""
    import webdataset

    yield from webdataset.WebDataset(tars, shardshuffle=False, empty_check=False)


def datasets_stream(tars: list[str]) -> Any:
    """Return the streaming dataset, pictures undecoded."""
    import datasets

    stream = datasets.load_dataset("webdataset", data_files={"train": tars}, split="train", streaming=True)
    return stream.cast_column("jpg", datasets.Image(decode=False))


def datasets_samples(tars: list[str]) -> Iterator[dict[str, Any]]:
    """Yield undecoded samples of datasets in order."""
    yield from datasets_stream(tars)


def resume(index: TarIndex, store: ShardStore, tars: list[str], num_samples: int) -> dict[str, Any]:
    """Stop three quarters into an epoch and go on: is the rest the same, and how long until its first sample?"""
    cursor = int(num_samples * RESUME_AT)
    return {
        "at_sample": cursor,
        "ours": _ours_resumed(index, store, cursor),
        "webdataset": _webdataset_resumed(tars, cursor),
        "datasets": _datasets_resumed(tars, cursor),
    }


def _ours_resumed(index: TarIndex, store: ShardStore, cursor: int) -> dict[str, Any]:
    expected = [key for key, _ in islice(ours(index, store), cursor, None)]
    started = time.perf_counter()
    stream = ours(index, store, cursor)
    first, _ = next(stream)
    seconds = time.perf_counter() - started
    keys = [first, *(key for key, _ in stream)]
    return {
        "how": "one integer",
        "shuffled": True,
        "is_exact": keys == expected,
        "seconds_to_first": round(seconds, 5),
    }


def _webdataset_resumed(tars: list[str], cursor: int) -> dict[str, Any]:
    """It keeps no position; skipping what was seen is exact in order, and shuffled only with the same seed."""
    expected = [sample["__key__"] for sample in islice(webdataset_samples(tars), cursor, None)]
    started = time.perf_counter()
    stream = islice(webdataset_samples(tars), cursor, None)
    first = next(stream)
    seconds = time.perf_counter() - started
    keys = [first["__key__"], *(sample["__key__"] for sample in stream)]
    return {
        "how": "reads and throws away what was seen", "shuffled": False,
        "is_exact": keys == expected, "seconds_to_first": round(seconds, 5),
    }  # fmt: skip


def _datasets_resumed(tars: list[str], cursor: int) -> dict[str, Any]:
    """`state_dict` of the stream, in order and through its shuffle buffer."""
    results = {}
    for name, buffer in (("in_order", 0), ("shuffled", SHUFFLE_BUFFER)):

        def stream(buffer: int = buffer) -> Any:
            plain = datasets_stream(tars)
            return plain.shuffle(seed=SEED, buffer_size=buffer) if buffer else plain

        whole = stream()
        expected, state = [], None
        for number, sample in enumerate(whole):
            if number >= cursor:
                expected.append(sample["__key__"])
            elif number == cursor - 1:
                state = whole.state_dict()
        again = stream()
        again.load_state_dict(state)
        started = time.perf_counter()
        rest = iter(again)
        first = next(rest, None)
        seconds = time.perf_counter() - started
        keys = [sample["__key__"] for sample in [first, *rest] if sample is not None]
        results[name] = {
            "how": "state_dict", "is_exact": keys == expected, "num_samples_lost_or_repeated":
            len(set(expected) ^ set(keys)), "seconds_to_first": round(seconds, 5),
        }  # fmt: skip
    return results


def _ours_decoded(sample: tuple[str, dict[str, bytes]]) -> np.ndarray:
    return _rgb(sample[1]["jpg"])


def _webdataset_decoded(sample: dict[str, Any]) -> np.ndarray:
    return _rgb(sample["jpg"])


def _datasets_decoded(sample: dict[str, Any]) -> np.ndarray:
    return _rgb(sample["jpg"]["bytes"])


def _rgb(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def _prepared(sample: tuple[str, dict[str, bytes]]) -> tuple[Any, ...]:
    """All but the recogniser, whose vectors the cache holds, at the real sizes: 512 px, CLIP at 224 px."""
    raw = raw_sample(sample[1], sample[0])
    rgb = raw.decoded(DecodeLimits())
    view = view_of(raw, CropSettings(), flipped=False)
    size: Size = view.size
    return (
        view.pixels(rgb),
        clip_pixels(rgb, raw.landmarks_52, 224, "insightface-512"),
        draw(view.landmarks(raw), (size.height, size.width)),
    )


if __name__ == "__main__":
    sys.exit(main())
