"""A run whose recipe admits AVIF, GIF and first frames, from tars to packed shards that other readers open."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.commands.curate.stage import curate
from curation.commands.pack.stage import pack
from curation.commands.verify.check import verify
from curation.dataset.ledger import read_ledger
from curation.dataset.tar import read_samples
from curation.images.containers import WALKERS, read_container, sniff_format
from curation.images.decode import decode
from curation.recipe.settings import DecodeLimits
from curation.run.runner import Spread
from tests import pictures
from tests.curation.shards import RECIPE, colourful, recipe_from, sample_members, write_shard

ALONE = Spread(num_workers=0)
SECRET = b"a secret place, 52.3702 N"
ADMITTING = (
    RECIPE
    + """
[decode]
formats = ["avif", "gif", "jpg", "png", "webp"]
animated = "first_frame"
"""
)
SAMPLES = {
    "a": (colourful(1, "AVIF"), "avif"),
    "b": (pictures.encode(pictures.scene(2, 64, 48), "AVIF", exif=pictures.exif(6), xmp=SECRET), "avif"),
    "c": (colourful(3, "GIF"), "gif"),
    "d": (pictures.animation("webp"), "webp"),
    "e": (pictures.animation("gif"), "gif"),
    "f": (colourful(6), "jpg"),
    "g": (b"\xff\x0a" + bytes(60), "img"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("admitted") / "in"
    write_shard(folder, "00000", [sample_members(key, *picture) for key, picture in SAMPLES.items()])
    return folder


def outcomes(folder: Path) -> dict[str, tuple[str | None, str | None]]:
    return {row["key"]: (row["format"], row["reason"]) for row in read_ledger(folder / "00000.parquet").to_pylist()}


def test_what_the_recipe_admits_is_kept_packed_without_metadata_and_verified(source: Path, tmp_path: Path) -> None:
    recipe = recipe_from(tmp_path, ADMITTING)
    curate(source, tmp_path / "curate", recipe, ALONE)
    assert outcomes(tmp_path / "curate") == {
        "a": ("avif", None), "b": ("avif", None), "c": ("gif", None), "d": ("webp", None),
        "e": ("gif", None), "f": ("jpg", None), "g": (None, "format_jpeg_xl"),
    }  # fmt: skip
    pack(tmp_path / "curate", tmp_path / "pack", recipe, ALONE)
    assert verify(tmp_path, ALONE).faults == ()
    packed = [sample for tar in sorted((tmp_path / "pack").glob("*.tar")) for sample in read_samples(tar)]
    assert len(packed) == 6
    for sample in packed:
        image_format = sniff_format(sample.image_bytes, WALKERS)
        assert image_format is not None and SECRET not in sample.image_bytes
        assert not read_container(sample.image_bytes, image_format).is_animated
        shown = decode(sample.image_bytes, DecodeLimits().admitting_all())
        assert (shown.width, shown.height) == (sample.metadata["width"], sample.metadata["height"])
        with Image.open(io.BytesIO(sample.image_bytes)) as image:
            assert np.asarray(image.convert("RGB")).size == shown.rgb.size


def test_a_recipe_that_does_not_say_so_names_what_it_refuses(source: Path, tmp_path: Path) -> None:
    curate(source, tmp_path / "curate", recipe_from(tmp_path), ALONE)
    assert outcomes(tmp_path / "curate") == {
        "a": (None, "format_avif"), "b": (None, "format_avif"), "c": (None, "format_gif"), "d": (None, "animated"),
        "e": (None, "format_gif"), "f": ("jpg", None), "g": (None, "format_jpeg_xl"),
    }  # fmt: skip
