"""Builds a corpus that stands for the selected top of LAION-Face, from labelled photos: tars as `fetch` writes them.

    FACECAPTIONHQ_GOLD=... python -m benchmarks.pictures.corpus --out FOLDER [--num-photos 2000] [--seed 2026]

Sizes follow the selected top 10 M of LAION-Face (`benchmarks.pictures.sources.LONG_SIDE`), since those are what
`curate` sees; shapes are the photos' own, jittered by crops. Three fifths should be rejected before text is looked for
(`MIX`). Every picture is a crop of a photo at a drawn size, mirrored or not, relit, toned or written on, and coded
anew; its label is known from how it was made and stands in `manifest.csv`, never in the tars. No two have the same
sha256, and as far as possible none the same pHash. The same seed, photos and library versions give the same bytes.
"""

import argparse
import csv
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pictures import sources
from benchmarks.pictures.sources import Coded, Cut, Source, coded, cut
from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.verdicts import derivatives, lettering
from curation.dataset.sample import uid_of_url
from curation.dataset.tar import write_tar
from curation.measure.cascade import Entry
from curation.measure.fingerprint import fingerprint, look_at, phash_distance
from curation.recipe.settings import DecodeLimits
from curation.storage.publish import sha256_of
from filters.base import RgbImage

MIX: Mapping[tuple[str, str], float] = {
    ("single", "photo"): 0.22,
    ("single", "mark"): 0.04,
    ("text", "drawn"): 0.08,
    ("text", "photo"): 0.06,
    ("bw", "grey"): 0.05,
    ("bw", "photo"): 0.03,
    ("sepia", "toned"): 0.055,
    ("sepia", "photo"): 0.005,
    ("group", "photo"): 0.26,
    ("noface", "photo"): 0.16,
    ("anime", "photo"): 0.04,
}
"""(label, what was done) -> share. Colour, faces and anime come before text: 60 % should go there."""
BEFORE_TEXT = ("bw", "sepia", "group", "noface", "anime")
TONES = ("sepia", "brown", "cyanotype", "faint_tone")
NUM_SHARD_SAMPLES = 250
MAX_ATTEMPTS = 12
MANIFEST = "manifest.csv"


@dataclass(frozen=True)
class Row:
    """One line of the manifest."""

    key: str
    shard: str
    label: str
    """What the recipe should make of it: `single` stays, all others go."""
    kind: str
    """What was done, for drawn text with the script and the contrast."""
    source: str
    width: int
    height: int
    format: str
    num_bytes: int
    quality: int | None
    subsampling: str | None
    is_progressive: bool
    enlarged: float
    is_mirrored: bool
    sha256: str
    phash: str
    uid: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the corpus, and what it holds to the results."""
    options = _options(arguments)
    rows = build(Path(os.environ["FACECAPTIONHQ_GOLD"]), options.out, options.num_photos, options.seed)
    result = {"seed": options.seed, **figures(rows, options.out), "machine": machine(), "commit": commit()}
    options.result.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0


def build(gold: Path, out: Path, num_photos: int, seed: int) -> list[Row]:
    """Write `NNNNN.tar` and `manifest.csv` into a new folder, and return the manifest."""
    out.mkdir(parents=True)
    photos = sources.sources(gold)
    plan = planned(num_photos, seed)
    rows: list[Row] = []
    phashes: set[str] = set()
    for shard, start in enumerate(range(0, len(plan), NUM_SHARD_SAMPLES)):
        numbers = range(start, min(start + NUM_SHARD_SAMPLES, len(plan)))

        def members(shard: int = shard, numbers: range = numbers) -> Iterator[tuple[str, bytes]]:
            for number in numbers:
                row, image_bytes = _distinct(photos, *plan[number], (seed, number, shard), phashes)
                rows.append(row)
                yield from _members(row, image_bytes, number)

        write_tar(out / f"{shard:05d}.tar", members())
        print(f"{len(rows)} of {len(plan)}", file=sys.stderr)
    with (out / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(Row.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    return rows


def planned(num_photos: int, seed: int) -> list[tuple[str, str]]:
    """Return label and kind of every picture, mixed; counts follow `MIX`, the largest remainders are rounded up."""
    exact = {pair: share * num_photos for pair, share in MIX.items()}
    counts = {pair: int(number) for pair, number in exact.items()}
    by_remainder = sorted(exact, key=lambda pair: counts[pair] - exact[pair])
    for pair in by_remainder[: num_photos - sum(counts.values())]:
        counts[pair] += 1
    plan = [pair for pair, count in counts.items() for _ in range(count)]
    return [plan[int(i)] for i in np.random.default_rng(seed).permutation(len(plan))]


def _distinct(
    photos: Mapping[str, Sequence[Source]], label: str, kind: str, place: tuple[int, int, int], phashes: set[str]
) -> tuple[Row, bytes]:
    """Make a picture until its pHash is new, or `MAX_ATTEMPTS` times."""
    seed, number, shard = place
    for attempt in range(MAX_ATTEMPTS):
        random_numbers = np.random.default_rng([seed, number, attempt])
        piece, image, made = _made(photos, label, kind, random_numbers)
        file = coded(image, random_numbers)
        print_ = fingerprint(file.image_bytes, look_at([Entry("", file.image_bytes)], DecodeLimits())[0])
        if print_.phash not in phashes:
            break
    phashes.add(str(print_.phash))
    key = f"{shard:05d}{number:06d}"
    return _row(key, f"{shard:05d}", label, made, piece, file, image, print_.sha256, str(print_.phash), number), (
        file.image_bytes
    )


def _made(
    photos: Mapping[str, Sequence[Source]], label: str, kind: str, numbers: np.random.Generator
) -> tuple[Cut, RgbImage, str]:
    """Return the cut, the picture made of it, and in words what was done."""
    if kind == "photo":
        piece = cut(photos[label], label, numbers)
        return piece, piece.image, kind
    piece = cut(photos["group" if label in {"bw", "sepia"} and numbers.random() < 0.3 else "single"], "single", numbers)
    if label in {"bw", "sepia"}:
        tone = kind if kind == "grey" else TONES[int(numbers.integers(len(TONES)))]
        change: Callable[[RgbImage], RgbImage] = getattr(derivatives, tone)
        return piece, change(piece.image), tone
    names = list(lettering.MUCH)
    name = kind if kind == "mark" else names[int(numbers.integers(len(names)))]
    written = (lettering.mark if kind == "mark" else lettering.MUCH[name])(piece.image, numbers)
    return piece, written.image, f"{name} {written.script} {written.contrast}"


def _row(
    key: str, shard: str, label: str, made: str, piece: Cut, file: Coded, image: RgbImage, sha256: str, phash: str,
    number: int,
) -> Row:  # fmt: skip
    return Row(
        key, shard, label, made, piece.source, image.shape[1], image.shape[0], file.format, len(file.image_bytes),
        file.quality, file.subsampling, file.is_progressive, round(piece.enlarged, 4), piece.is_mirrored, sha256, phash,
        uid_of_url(_url(number)),
    )  # fmt: skip


def _members(row: Row, image_bytes: bytes, number: int) -> Iterator[tuple[str, bytes]]:
    fields = {
        "uid": row.uid, "url": _url(number), "sha256": row.sha256, "crawled_width": row.width,
        "crawled_height": row.height,
    }  # fmt: skip
    yield f"{row.key}.{row.format}", image_bytes
    yield f"{row.key}.json", json.dumps(fields, sort_keys=True).encode()
    yield f"{row.key}.txt", f"picture number {number}".encode()


def _url(number: int) -> str:
    return f"http://corpus.invalid/{number:06d}"


def figures(rows: Sequence[Row], out: Path) -> dict[str, Any]:
    """Return what the corpus holds and what it stands for."""
    phashes = [row.phash for row in rows]
    near = sum(phash_distance(one, other) <= 4 for place, one in enumerate(phashes) for other in phashes[place + 1 :])
    shares = Counter(row.label for row in rows)
    return {
        "num_photos": len(rows),
        "num_sources": len({row.source for row in rows}),
        "stands_for": "the selected top 10 M of LAION-Face by area, the upper fifth of its 50 M: what curate sees",
        "long_side_px": {**sources.LONG_SIDE, "deciles": _deciles([max(row.width, row.height) for row in rows])},
        "both_sides_from_1024_fraction": _fraction(min(row.width, row.height) >= 1024 for row in rows),
        "aspect_deciles": _deciles([max(row.width, row.height) / min(row.width, row.height) for row in rows]),
        "num_bytes_deciles": _deciles([row.num_bytes for row in rows]),
        "enlarged_fraction": _fraction(row.enlarged > 1 for row in rows),
        "labels": dict(sorted(shares.items())),
        "must_go_before_text_fraction": _fraction(row.label in BEFORE_TEXT for row in rows),
        "kinds": dict(sorted(Counter(f"{row.label}: {row.kind.split()[0]}" for row in rows).items())),
        "scripts": dict(sorted(Counter(row.kind.split()[1] for row in rows if " " in row.kind).items())),
        "contrasts": dict(sorted(Counter(row.kind.split()[2] for row in rows if " " in row.kind).items())),
        "formats": dict(sorted(Counter(row.format for row in rows).items())),
        "qualities": {str(q): n for q, n in sorted(Counter(row.quality or 0 for row in rows).items())},
        "halved_chroma_fraction_of_jpg": _fraction(row.subsampling == "4:2:0" for row in rows if row.format == "jpg"),
        "progressive_fraction_of_jpg": _fraction(row.is_progressive for row in rows if row.format == "jpg"),
        "num_distinct_sha256": len({row.sha256 for row in rows}),
        "num_distinct_phash": len(set(phashes)),
        "num_pairs_within_4_bits_of_phash": near,
        "sha256": {path.name: sha256_of(path) for path in sorted(out.glob("*.tar"))},
    }


def _deciles(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in statistics.quantiles(values, n=10)]


def _fraction(are: Iterator[bool]) -> float:
    values = list(are)
    return round(sum(values) / max(1, len(values)), 4)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pictures.corpus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--num-photos", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--result", type=Path, default=RESULTS / "corpus.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
