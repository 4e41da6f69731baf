"""What the documentation shows to readers outside gives the pixels that the trainer sees, on pictures of every kind."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation.commands.curate.stage import curate
from curation.commands.pack.stage import pack
from curation.dataset.tar import read_samples
from curation.recipe.settings import DecodeLimits
from curation.run.runner import Spread
from facemakeup.data.raw_sample import RawSample
from filters.base import RgbImage
from tests import pictures, profiles
from tests.curation.shards import recipe_from, sample_members, write_shard
from tests.snippets import blocks

UPRIGHT = pictures.scene(1)
SNIPPET = next(block for block in blocks("python") if "open_picture" in block.text)
PRIMARIES = {
    "p3": (0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    "prophoto": (0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001),
}
"""x and y of red, green and blue (SMPTE RP 431-2; ISO 22028-2)."""
TO_D50 = np.array([[1.0478, 0.0229, -0.0501], [0.0296, 0.9904, -0.0171], [-0.0092, 0.0151, 0.7521]])
"""From D65 to the white of profiles (Bradford)."""


def wide(name: str) -> bytes:
    """Return an ICC profile of wide primaries with the curve of sRGB."""
    x, y = np.array(PRIMARIES[name]).reshape(3, 2).T
    xyz = np.stack([x / y, np.ones(3), (1 - x - y) / y])
    white = np.array([0.9642, 1.0, 0.8249]) if name == "prophoto" else np.array([0.9505, 1.0, 1.089])
    columns = xyz * np.linalg.solve(xyz, white)
    columns = columns if name == "prophoto" else TO_D50 @ columns
    tags = {}
    for letter, column in zip((b"r", b"g", b"b"), columns.T, strict=True):
        tags[letter + b"XYZ"] = profiles.icc_xyz(*column)
        tags[letter + b"TRC"] = profiles.icc_curve(list(profiles.SRGB_CURVE))
    return profiles.icc_profile(b"mntr", b"RGB ", tags)


def kinds() -> dict[str, bytes]:
    """Return a picture of every kind by a name of its own."""
    alpha = np.dstack([UPRIGHT, pictures.noise(3)[..., :1]])
    turned = {
        f"exif{orientation}{image_format}": pictures.encode(
            pictures.laid_down(UPRIGHT, orientation),
            image_format,
            exif=pictures.exif(orientation=orientation),
            **({"quality": 95} if image_format == "jpg" else {"lossless": True} if image_format == "webp" else {}),
        )
        for orientation in range(1, 9)
        for image_format in ("jpg", "png", "webp")
    }
    return {
        **turned,
        "p3": pictures.encode(UPRIGHT, "png", icc_profile=wide("p3")),
        "prophoto": pictures.encode(UPRIGHT, "jpg", quality=95, icc_profile=wide("prophoto")),
        "alphapng": pictures.encode(Image.fromarray(alpha), "png"),
        "alphawebp": pictures.encode(Image.fromarray(alpha), "webp", lossless=True, exact=True),
        "cmyk": pictures.encode(Image.fromarray(UPRIGHT).convert("CMYK"), "jpg", quality=95),
        "greyalpha": pictures.encode(Image.fromarray(alpha).convert("LA"), "png"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `run/pack` holds every kind once."""
    folder = tmp_path_factory.mktemp("kinds")
    text = 'schema_version = 1\nname = "kinds"\n[[filters]]\nname = "colour"\n'
    recipe = recipe_from(folder, text)
    write_shard(folder / "in", "00000", [sample_members(name, content) for name, content in kinds().items()])
    curate(folder / "in", folder / "run" / "curate", recipe, Spread(0))
    assert pack(folder / "run" / "curate", folder / "run" / "pack", recipe, Spread(0)).num_kept == len(kinds())
    return folder


def trainers(pack: Path) -> dict[str, RgbImage]:
    """Return the pixels that the trainer makes of each packed sample, by the name of its kind."""
    seen = {}
    for sample in (sample for path in sorted(pack.glob("*.tar")) for sample in read_samples(path)):
        told = sample.metadata
        raw = RawSample(
            told["uid"], told["caption"], sample.image_bytes, told["sha256"], told["width"], told["height"],
            (0.0, 0.0, 1.0, 1.0), np.zeros((5, 2)),
        )  # fmt: skip
        seen[told["url"].rpartition("/")[2].partition(".")[0]] = raw.decoded(DecodeLimits())
    return seen


def naive(image_bytes: bytes) -> RgbImage:
    """Return what Pillow alone makes of a picture."""
    with Image.open(io.BytesIO(image_bytes)) as image:
        return np.asarray(image.convert("RGB"))


def test_the_documented_snippet_gives_the_trainers_pixels_of_every_kind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(folder / "cache"))
    variables: dict[str, Any] = {}
    exec(compile(SNIPPET.text, SNIPPET.place, "exec"), variables)
    expected = trainers(folder / "run" / "pack")
    assert expected.keys() == kinds().keys()
    streamed = {told["url"]: picture for picture, told, _ in variables["streamed"]}
    loaded = {sample["json"]["url"]: sample["picture"] for sample in variables["loaded"]}
    for found in (streamed, loaded):
        assert len(found) == len(expected)
        for url, picture in found.items():
            assert np.array_equal(picture, expected[url.rpartition("/")[2].partition(".")[0]]), url


def test_those_pixels_are_the_picture_that_was_meant(folder: Path) -> None:
    seen, stored = trainers(folder / "run" / "pack"), kinds()
    for name, picture in seen.items():
        if name.startswith("exif"):
            limit = 0 if name.endswith(("png", "webp")) else 24
            assert np.abs(picture.astype(int) - UPRIGHT).max() <= limit, name
    for name in ("p3", "prophoto", "alphapng", "alphawebp", "greyalpha", "exif6png"):
        other = naive(stored[name])
        assert other.shape != seen[name].shape or np.abs(other.astype(int) - seen[name]).max() > 3, name
    blend = pictures.noise(3)[..., :1] / 255
    over_white = UPRIGHT * blend + 255 * (1 - blend)
    for name in ("alphapng", "alphawebp"):
        assert np.abs(seen[name] - over_white).max() <= 1
    assert np.ptp(seen["p3"].astype(int), axis=-1).mean() > np.ptp(UPRIGHT.astype(int), axis=-1).mean()
