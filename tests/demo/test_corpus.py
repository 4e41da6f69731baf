"""The demo corpus: seeded, honestly labelled, small enough, and as dirty as the real metadata."""

import csv
import io
import json
import random
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from curation.commands.rank.stage import rank
from curation.dataset.manifest import Manifest
from curation.recipe.recipe import load_recipe
from demo.corpus import Corpus, build
from demo.drawing import draw_face
from demo.photos import (
    astronaut,
    cropped,
    cropped_around_face,
    hopper,
    mirrored,
    pencilled,
    scaled,
    scaled_to,
    side_by_side,
)
from demo.server import LONGEST_WAIT_S, DemoServer, Route, serve
from tests.curation.shards import recipe_from
from tests.filters.marks import with_centerface, with_efficientnet

BASE_URL = "http://127.0.0.1:18080"
RECIPE = """
schema_version = 1
name = "demo-ranking"
[rank]
top = 120
rows_per_part = 40
[[filters]]
name = "colour"
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(tmp_path_factory.mktemp("corpus"), BASE_URL)


@pytest.fixture(scope="module")
def ranked(corpus: Corpus) -> Manifest:
    folder = corpus.pictures.parent
    return rank(corpus.facecaption, corpus.laion, folder / "rank", recipe_from(folder, RECIPE))


def truth(corpus: Corpus) -> list[dict[str, str]]:
    """The rows of truth.csv."""
    with corpus.truth.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def get(server: DemoServer, path: str, timeout: float = 10) -> tuple[Any, bytes]:
    """Ask the server, without any proxy: headers and body."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{server.base_url}{path}", timeout=timeout) as response:
        return response.headers, response.read()


@pytest.mark.slow
def test_the_corpus_stays_within_its_size(corpus: Corpus) -> None:
    assert corpus.num_facecaption_rows <= 200
    assert corpus.num_laion_rows <= 200
    portraits = {row["file"] for row in truth(corpus) if row["file"].startswith(("single-", "text-"))}
    assert 50 <= len(portraits) <= 70


@pytest.mark.slow
def test_every_label_is_there_and_says_what_it_was_made_from(corpus: Corpus) -> None:
    rows = truth(corpus)
    kinds = {"single", "masked", "group", "bw", "sepia", "text", "drawn", "animal", "noface"}
    assert {row["label"] for row in rows} == kinds
    packages = ("matplotlib: ", "scikit-image: ", "side by side: ", "drawn with Pillow")
    assert all(row["made_from"].startswith(packages) for row in rows)
    assert {row["made_from"].partition(",")[0] for row in rows if row["label"] == "animal"} == {
        "scikit-image: chelsea.png"
    }
    drawn = {"drawn with" in row["made_from"] for row in rows if row["label"] == "drawn"}
    assert drawn == {True, False}, "one kind is drawn by hand, the other redrawn from a photo"


@pytest.mark.slow
@with_centerface
@with_efficientnet
def test_what_is_redrawn_has_a_face_and_looks_drawn_to_the_filters_of_the_demo() -> None:
    recipe = load_recipe("demo")
    plans = {plan.name: plan for plan in recipe.filters}
    chance = random.Random(0)
    pictures = [
        np.array(pencilled(scaled_to(cropped_around_face(one(), chance), 640)).image) for one in (hopper, astronaut)
    ]
    found = {}
    for name in ("drawn", "faces"):
        plan = plans[name]
        measured = plan.module.build(plan.measure, "cpu").measure(pictures)
        found[name] = [plan.module.scores(evidence, plan.score) for evidence in measured]
    assert [one["num_faces"] for one in found["faces"]] == [1, 1]
    limit = plans["drawn"].keep["drawn_probability"].max
    assert limit is not None and all(one["drawn_probability"] > limit for one in found["drawn"])


@pytest.mark.slow
def test_formats_and_sizes_vary(corpus: Corpus) -> None:
    formats: Counter[str | None] = Counter()
    sides = []
    for path in corpus.pictures.glob("single-*"):
        with Image.open(path) as image:
            formats[image.format] += 1
            sides.append(max(image.size))
    assert formats["JPEG"] > formats["WEBP"] > formats["PNG"] > 0
    assert min(sides) < 256
    assert max(sides) == 1600


@pytest.mark.slow
def test_equal_seeds_give_equal_bytes(corpus: Corpus, tmp_path: Path) -> None:
    again = build(tmp_path, BASE_URL)
    for path in [again.facecaption, again.truth, *again.laion.iterdir(), *again.pictures.iterdir()]:
        original = corpus.pictures.parent / path.relative_to(tmp_path)
        assert path.read_bytes() == original.read_bytes(), path.name


def test_face_boxes_follow_the_pixels() -> None:
    marked = astronaut()
    left, top, right, bottom = (round(side) for side in marked.faces[0].box)
    marked.image.paste((255, 0, 255), (left, top, right, bottom))
    moved = mirrored(scaled(cropped(marked, (80, 0, 480, 400)), 800, 600))
    wide = side_by_side([moved, moved], 480)
    assert len(wide.faces) == 2
    for photo in (moved, wide):
        distance = np.abs(np.array(photo.image, int) - (255, 0, 255)).max(axis=2)
        for left, top, right, bottom in (map(round, face.box) for face in photo.faces):
            assert distance[top + 3 : bottom - 3, left + 3 : right - 3].max() <= 24
            assert distance[[top - 4, bottom + 4], left:right].min() > 24
            assert distance[top:bottom, [left - 4, right + 4]].min() > 24


def test_a_portrait_on_its_side_is_righted_by_its_orientation(corpus: Corpus) -> None:
    turned = [row for row in truth(corpus) if "stored on its side" in row["made_from"] and row["fate"] == "arrives"]
    assert turned
    with Image.open(corpus.pictures / turned[0]["file"]) as image:
        assert image.getexif()[0x0112] == 6
        assert ImageOps.exif_transpose(image).size == image.size[::-1]


def test_drawn_faces_differ_by_seed_and_only_by_seed() -> None:
    assert draw_face(1, 96).tobytes() == draw_face(1, 96).tobytes()
    assert draw_face(1, 96).tobytes() != draw_face(2, 96).tobytes()


def test_every_kind_of_dirt_is_counted_when_the_corpus_is_ranked(corpus: Corpus, ranked: Manifest) -> None:
    faults = ranked.extra["faults"]
    for fault in ("box_broken", "caption_missing", "duplicate_row", "url_extra_text", "url_unusable"):
        assert faults["facecaption"][fault] > 0, fault
    for fault in ("caption_missing", "duplicate_row", "no_size", "sample_id_float", "url_unusable"):
        assert faults["laion"][fault] > 0, fault
    assert ranked.rejected["rank"] == {
        "below_cut": 8,
        "no_size": 3,
        "not_in_facecaption": 5,
        "not_in_laion": 4,
        "url_unusable": 7,
    }
    assert ranked.num_kept == 120
    assert ranked.extra["num_facecaption_rows"] == corpus.num_facecaption_rows
    assert ranked.extra["num_laion_rows"] == corpus.num_laion_rows


def test_every_face_of_a_group_has_its_own_caption_row(corpus: Corpus, ranked: Manifest) -> None:
    rows = [
        row
        for part in range(3)
        for row in pq.read_table(corpus.pictures.parent / f"rank/{part:05d}.parquet").to_pylist()
    ]
    groups = [json.loads(row["facecaptions"]) for row in rows if "/group-" in row["url"]]
    assert len(groups) == 8
    assert max(len({tuple(face["box"]) for face in faces if face["box"]}) for faces in groups) == 4


def test_the_server_fails_in_every_way_it_promises(corpus: Corpus) -> None:
    file = next(path.name for path in sorted(corpus.pictures.glob("single-*.jpg")))
    whole = (corpus.pictures / file).read_bytes()
    with serve(corpus.pictures) as server:
        assert get(server, f"/{Route.IMAGES}/{file}")[1] == whole
        assert get(server, f"/{Route.MOVED}/{file}")[1] == whole
        assert get(server, f"/{Route.REFUSED}/{file}")[0]["X-Robots-Tag"] == "noai"
        assert get(server, f"/{Route.PAGE}/a.jpg")[1].startswith(b"<!DOCTYPE html>")
        assert get(server, f"/{Route.EMPTY}/a.jpg")[1] == b""
        assert get(server, f"/{Route.REMOVED}/a.jpg")[1] == get(server, f"/{Route.REMOVED}/b.jpg")[1]
        for route, code in ((Route.MISSING, 404), (Route.GONE, 410), (Route.BROKEN, 500), (Route.LOOP, 302)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                get(server, f"/{route}/a.jpg")
            caught.value.close()
            assert caught.value.code == code
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(server, f"/{Route.FLAKY}/{file}")
        caught.value.close()
        assert get(server, f"/{Route.FLAKY}/{file}")[1] == whole
        assert server.requests[f"/{Route.FLAKY}/{file}"] == 2


def test_a_slow_answer_ends_when_the_client_or_the_server_gives_up(corpus: Corpus) -> None:
    assert LONGEST_WAIT_S <= 60
    with serve(corpus.pictures) as server, pytest.raises(TimeoutError):
        get(server, f"/{Route.SLOW}/a.jpg", timeout=0.3)


@pytest.mark.parametrize(
    "path", ["/images/../truth.csv", "/images/%2e%2e/truth.csv", "/images//etc/passwd", "/truth.csv"]
)
def test_the_server_gives_nothing_but_pictures(corpus: Corpus, path: str) -> None:
    with serve(corpus.pictures) as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(server, path)
        caught.value.close()
        assert caught.value.code == 404


def test_a_cut_file_is_a_prefix_of_a_whole_one(corpus: Corpus) -> None:
    for path in corpus.pictures.glob("cut-*"):
        with pytest.raises(OSError, match="truncated"), Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
