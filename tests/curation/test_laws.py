"""The laws on real detectors: CenterFace, CRAFT and what tells drawn pictures, from the demo's packages."""

import io
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation.commands.curate.stage import curate
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_manifest
from curation.errors import WeightsError
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.runner import Spread
from filters.weights import find_weights
from tests.curation.shards import bytes_of, colourful, grey, sample_members, write_shard

FILTERS = ("colour", "text", "faces", "drawn")
ORDERS = list(permutations(FILTERS))[::5]


def recipe_with(folder: Path, order: tuple[str, ...], measure: str = "needed") -> Recipe:
    """The demo's recipe at small input sides, with another order."""
    text = (Path(load_recipe("demo").path)).read_text()
    text = text.replace(
        'order = ["colour", "faces", "drawn", "text_screen", "text"]', f"order = {list(order)}\nmeasure = '{measure}'"
    )
    text = text.replace("canvas_side = 640", "canvas_side = 160").replace("side = 640", "side = 320")
    path = folder / f"{'-'.join(order)}-{measure}.toml"
    path.write_text(text)
    return load_recipe(path)


def encoded(image: Image.Image, side: int = 320) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").resize((side, side)).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One shard of real photos that scikit-image carries, and what is made of them."""
    for name in ("centerface", "craft_mlt_25k", "efficientnet_lite0", "ppocr_v4_det"):
        try:
            find_weights(name)
        except WeightsError as error:
            pytest.skip(str(error))
    from skimage import data

    face = Image.fromarray(data.astronaut()[:300, 80:380])
    pair = Image.fromarray(np.hstack([np.asarray(face), np.asarray(face)[:, ::-1]]))
    page = Image.fromarray(np.stack([data.page()] * 2 + [data.page() // 2], axis=2))
    pictures = {
        "face": encoded(face), "pair": encoded(pair), "page": encoded(page),
        "cat": encoded(Image.fromarray(data.chelsea())), "grey": grey(1), "torn": colourful(2)[:-50],
        "noise": colourful(3),
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("laws") / "in"
    write_shard(folder, "00000", [sample_members(key, image_bytes) for key, image_bytes in pictures.items()])
    return folder


def ledger_of(source: Path, folder: Path, order: tuple[str, ...], measure: str) -> tuple[list[dict[str, Any]], bytes]:
    recipe = recipe_with(folder, order, measure)
    target = folder / Path(recipe.path).stem
    curate(source, target, recipe, Spread(0))
    return read_ledger(target / "00000.parquet").to_pylist(), bytes_of(target)["00000.tar"]


@pytest.mark.slow
def test_permuting_the_order_changes_neither_the_kept_nor_any_evidence_that_both_measured(
    source: Path, tmp_path: Path
) -> None:
    full, tar = ledger_of(source, tmp_path, FILTERS, "all")
    kept = [row["key"] for row in full if row["kept"]]
    assert kept == ["face"]
    for order in ORDERS:
        rows, same_tar = ledger_of(source, tmp_path, order, "needed")
        assert [row["key"] for row in rows if row["kept"]] == kept
        assert same_tar == tar
        for row, everything in zip(rows, full, strict=True):
            for name in FILTERS:
                if row[f"{name}_evidence"] is not None:
                    assert row[f"{name}_evidence"] == everything[f"{name}_evidence"]
            assert row["rejected_by"] in truly_rejecting(everything, tmp_path)


def truly_rejecting(row: dict[str, Any], folder: Path) -> set[str | None]:
    """Every filter whose own or joint criteria the full evidence fails, or what kept the sample out before."""
    if row["colour_evidence"] is None or row["kept"]:
        return {row["rejected_by"]}
    recipe = recipe_with(folder, FILTERS, "all")
    failing: set[str | None] = set()
    for plan in recipe.filters:
        found = {**row[f"{plan.name}_scores"], **(row["joint_scores"] or {})}
        for score, keep in plan.keep.items():
            low, high = (
                keep.min is not None and found[score] < keep.min,
                keep.max is not None and found[score] > keep.max,
            )
            if low or high:
                failing.add(plan.name)
    return failing


@pytest.mark.slow
def test_with_everything_measured_the_ledgers_are_equal_too_and_name_the_first_failure_in_declared_order(
    source: Path, tmp_path: Path
) -> None:
    first, tar = ledger_of(source, tmp_path, FILTERS, "all")
    other, same_tar = ledger_of(source, tmp_path, FILTERS[::-1], "all")
    assert (first, tar) == (other, same_tar)
    named = {row["key"]: row["rejected_by"] for row in first}
    assert named["grey"] == "colour" and named["pair"] == "faces" and named["torn"] == "unreadable"


def test_the_cascade_stops_measuring_what_is_decided(source: Path, tmp_path: Path) -> None:
    rows, _ = ledger_of(source, tmp_path, ("colour", "faces", "drawn", "text"), "needed")
    measured = {row["key"]: [name for name in FILTERS if row[f"{name}_evidence"] is not None] for row in rows}
    assert measured["grey"] == ["colour"]
    assert measured["cat"] == ["colour", "faces"]
    assert measured["face"] == ["colour", "faces", "drawn"]
    assert measured["torn"] == []
    assert [row["key"] for row in rows if row["text_screen_evidence"] is not None] == ["face"]


SCREEN = """
[[filters.screens]]
filter = "text_map"
measure = { side = 320 }
[[filters.screens.proofs]]
when.num_glyphs = { max = 4 }
then.num_characters = { max = 10 }
then.area_fraction = { max = 0.15 }
[[filters.screens.proofs]]
when.num_glyphs = { min = 40 }
then.num_characters = { min = 11 }
[[filters.screens.proofs]]
when.face_overlap_fraction = { max = 0.0 }
then.face_overlap_fraction = { max = 0.0 }
"""


@pytest.mark.slow
def test_screens_that_look_where_the_face_is_keep_the_same_in_any_order_of_work(source: Path, tmp_path: Path) -> None:
    kept = {}
    for number, order in enumerate(
        (
            FILTERS,
            FILTERS[::-1],
            ("text_screen", "text", "faces", "colour", "drawn"),
            ("faces", "text", "colour", "drawn"),
        )
    ):
        path = tmp_path / f"{number}.toml"
        text = Path(recipe_with(tmp_path, FILTERS).path).read_text().replace(f"{list(FILTERS)}", f"{list(order)}")
        head, stanza, rest = text.partition('name = "text"')
        before, mark, after = rest.partition("[[filters]]")
        path.write_text(head + stanza + before + SCREEN + mark + after)
        curate(source, tmp_path / f"{number}", load_recipe(path), Spread(0))
        rows = read_ledger(tmp_path / f"{number}" / "00000.parquet").to_pylist()
        kept[order] = [row["key"] for row in rows if row["kept"]]
        assert any(row["text_screen_evidence"] is not None and row["text_evidence"] is None for row in rows)
    assert set(map(tuple, kept.values())) == {("face",)}


def test_the_manifest_names_every_weights_file_by_its_sha256(source: Path, tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path, FILTERS)
    curate(source, tmp_path / "out", recipe, Spread(0))
    weights = read_manifest(tmp_path / "out").weights
    needed = ("centerface", "craft_mlt_25k", "drawn_heads", "efficientnet_lite0", "ppocr_v4_det")
    assert weights == {name: find_weights(name).sha256 for name in needed}
