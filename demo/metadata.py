"""Metadata about the demo corpus in the shape of FaceCaption-15M and LAION-Face, with the dirt of the real thing."""

import csv
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from demo.photos import Box, Face
from demo.server import Route

Row = dict[str, Any]
FIRST_SAMPLE_ID = 1_581_282_000_000
FATES: Mapping[Route, str] = {
    Route.MISSING: "http_404",
    Route.GONE: "http_410",
    Route.BROKEN: "http_5xx",
    Route.LOOP: "redirect_loop",
    Route.SHORT: "truncated_body",
    Route.REFUSED: "opted_out",
    Route.EMPTY: "empty_body",
    Route.SLOW: "timeout",
}
"""Why `fetch` cannot bring what is behind a route; from the others, something arrives."""
BROKEN_BOXES = ("", "null", "[12, 30, 12, 90]", "[12, 30]", "no box")
UNUSABLE_FACE_URLS = ("UNKNOWN", "UNKNOWN", None, "", "ftp://127.0.0.1/face.jpg")
UNUSABLE_LAION_URLS = (None, "data:image/png;base64,AAAA")

FACECAPTION = pa.schema(
    [
        ("_id", pa.string()),
        ("caption", pa.list_(pa.string())),
        ("url", pa.string()),
        ("laion_caption", pa.list_(pa.string())),
        ("box", pa.string()),
    ]
)
LAION = pa.schema(
    [
        ("URL", pa.string()),
        ("TEXT", pa.string()),
        ("WIDTH", pa.int64()),
        ("HEIGHT", pa.int64()),
        ("NSFW", pa.string()),
        ("similarity", pa.float64()),
        ("LICENSE", pa.string()),
        ("SAMPLE_ID", pa.int64()),
    ]
)
LAION_AS_FLOATS = pa.schema([(f.name, pa.float64() if f.type == pa.int64() else f.type) for f in LAION])
"""What pandas makes of the same columns once an integer is missing."""


@dataclass(frozen=True)
class Picture:
    """One picture of the corpus, as its encoded file shows it upright."""

    file: str
    label: str
    """`single`, `masked`, `group`, `bw`, `sepia`, `text`, `drawn`, `animal` or `noface`, as a person would say."""
    width: int
    height: int
    faces: tuple[Face, ...]
    made_from: str
    alt_text: str


@dataclass(frozen=True)
class Offer:
    """One URL of the corpus: what the server does there, and the picture that the metadata promises."""

    route: Route
    file: str
    picture: Picture
    crawl_scale: int = 1
    """How many times larger the picture was when it was crawled; the metadata still says so."""

    @property
    def path(self) -> str:
        """Path of the URL."""
        return f"/{self.route}/{self.file}"


def write_facecaption(path: Path, offers: Sequence[Offer], base_url: str, seed: int) -> int:
    """Write FaceCaption's columns about `offers`, a row per face, and return the number of rows."""
    chance = random.Random(f"facecaption {seed}")
    rows: list[Row] = []
    for number, offer in enumerate(offers):
        for face in offer.picture.faces or (_imagined_face(offer.picture),):
            rows.append(_face_row(_dirty_url(base_url + offer.path, number), face, offer.crawl_scale, number))
    rows += [_second_caption(row) for row in chance.sample(rows, 4)]
    for number, row in enumerate(rows):
        if number % 15 == 7:
            row["box"] = BROKEN_BOXES[number // 15 % len(BROKEN_BOXES)]
        if number % 19 == 11:
            row["caption"] = ([], [None], [" "])[number // 19 % 3]
    nobody = Face((10, 20, 90, 110), "A person.")
    elsewhere = [f"{base_url}/images/facecaption-only-{number}.jpg" for number in range(4)]
    sizeless = [f"{base_url}/images/no-size-{number}.jpg" for number in range(3)]
    rows += [_face_row(url, nobody, 1, 0) for url in (*elsewhere, *sizeless, *UNUSABLE_FACE_URLS)]
    chance.shuffle(rows)
    for number, row in enumerate(rows):
        row["_id"] = f"face-{number:04d}"
    pq.write_table(pa.Table.from_pylist(rows, FACECAPTION), path)
    return len(rows)


def write_laion(folder: Path, offers: Sequence[Offer], base_url: str, seed: int) -> int:
    """Write LAION's columns about `offers` as two files, one of them with float ids; return the number of rows."""
    chance = random.Random(f"laion {seed}")
    rows = [
        _laion_row(
            base_url + offer.path,
            offer.picture.alt_text,
            (offer.picture.width * offer.crawl_scale, offer.picture.height * offer.crawl_scale),
            chance,
        )
        for offer in offers
    ]
    for row in chance.sample(rows, 6):
        smaller = chance.choice((1, 2, 4))
        rows.append(
            {**row, "TEXT": "Same picture", "WIDTH": row["WIDTH"] // smaller, "HEIGHT": row["HEIGHT"] // smaller}
        )
    sizes = ((None, None), (0, 600), (-1, -1))
    rows += [_laion_row(f"{base_url}/images/no-size-{i}.jpg", "No size", size, chance) for i, size in enumerate(sizes)]
    rows += [_laion_row(f"{base_url}/images/laion-only-{i}.jpg", "No face", (640, 480), chance) for i in range(5)]
    rows += [_laion_row(url, "No address", (640, 480), chance) for url in UNUSABLE_LAION_URLS]
    chance.shuffle(rows)
    for number, row in enumerate(rows):
        row["SAMPLE_ID"] = FIRST_SAMPLE_ID + 37 * number
        if number % 31 == 3:
            row["TEXT"] = None
    half = len(rows) // 2
    rows[-1]["SAMPLE_ID"] = None
    folder.mkdir(exist_ok=True)
    for part, (some, schema) in enumerate(((rows[:half], LAION), (rows[half:], LAION_AS_FLOATS))):
        table = pa.Table.from_pylist(some, LAION).cast(schema)
        pq.write_table(table, folder / f"part_{part:05d}.parquet")
    return len(rows)


def write_truth(path: Path, offers: Sequence[Offer]) -> None:
    """Write what is known of every URL: its path, file, label, fate in `fetch`, and what the picture was made from."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "file", "label", "fate", "made_from"))
        for offer in offers:
            fate = FATES.get(offer.route, "arrives")
            writer.writerow((offer.path, offer.file, offer.picture.label, fate, offer.picture.made_from))


def _face_row(url: str | None, face: Face, scale: int, number: int) -> Row:
    alt_texts: list[str | None] = [] if number % 3 else [None]
    box = json.dumps([round(side * scale) for side in face.box])
    return {"caption": [face.description], "url": url, "laion_caption": alt_texts, "box": box}


def _second_caption(row: Row) -> Row:
    return {**row, "caption": [f"Portrait. {row['caption'][0]}"]}


def _imagined_face(picture: Picture) -> Face:
    """What a face detector's false alarm leaves in FaceCaption: a box where no face is."""
    box: Box = (picture.width * 0.4, picture.height * 0.4, picture.width * 0.6, picture.height * 0.6)
    return Face(box, "A face with a neutral expression.")


def _dirty_url(url: str, number: int) -> str:
    """Write some URLs as FaceCaption does: with text after them, or in another form of the same address."""
    if number % 10 == 4:
        return f"{url}, from a gallery of portraits"
    if number % 10 == 6:
        return url.replace("http://", "HTTP://", 1)
    return f"{url}#portrait" if number % 10 == 9 else url


def _laion_row(url: str | None, text: str, size: tuple[int | None, int | None], chance: random.Random) -> Row:
    return {
        "URL": url,
        "TEXT": text,
        "WIDTH": size[0],
        "HEIGHT": size[1],
        "NSFW": "UNLIKELY",
        "similarity": round(chance.uniform(0.3, 0.4), 6),
        "LICENSE": "?",
        "SAMPLE_ID": None,
    }
