"""Source shards for the laws: seeded pictures that the `colour` filter judges, in img2dataset's form."""

import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from curation.dataset.tar import write_tar
from curation.recipe.recipe import Recipe, load_recipe

RECIPE = """
schema_version = 1
name = "laws"
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
[pack]
num_shard_samples = 4
"""


def colourful(seed: int, image_format: str = "JPEG", side: int = 64) -> bytes:
    """Return an encoded picture of random hues."""
    return encode(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8), image_format, side)


def grey(seed: int, image_format: str = "JPEG", side: int = 64) -> bytes:
    """Return an encoded picture without colour."""
    values = np.random.default_rng(seed).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    return encode(np.repeat(values, 3, axis=2), image_format, side)


def encode(pixels: np.ndarray, image_format: str, side: int) -> bytes:
    """Return pixels, enlarged to a square of `side` pixels, as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST).save(file, image_format)
    return file.getvalue()


def sample_members(
    key: str, image_bytes: bytes, suffix: str = "jpg", url: str | None = None
) -> list[tuple[str, bytes]]:
    """Return the three members of a sample."""
    metadata = {"url": url or f"http://example.org/{key}.{suffix}", "width": 64, "height": 64}
    return [
        (f"{key}.{suffix}", image_bytes),
        (f"{key}.json", json.dumps(metadata).encode()),
        (f"{key}.txt", f"caption of {key}".encode()),
    ]


def write_shard(folder: Path, name: str, samples: Iterable[list[tuple[str, bytes]]]) -> Path:
    """Write `{name}.tar`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tar"
    write_tar(path, [member for sample in samples for member in sample])
    return path


def mixed_source(folder: Path, num_shards: int = 3) -> Path:
    """Write shards that each hold three colourful pictures, two grey ones, a torn one, a PNG and a duplicate."""
    for number in range(num_shards):
        start = 100 * number
        samples = [sample_members(f"{start + i:05d}", colourful(start + i)) for i in range(3)]
        samples += [sample_members(f"{start + i:05d}", grey(start + i)) for i in (10, 11)]
        samples.append(sample_members(f"{start + 20:05d}", colourful(start)[:-40]))
        samples.append(sample_members(f"{start + 30:05d}", colourful(start + 30, "PNG"), "png"))
        samples.append(sample_members(f"{start + 40:05d}", colourful(7), url=f"http://example.org/{start:05d}.jpg"))
        write_shard(folder, f"{number:05d}", samples)
    return folder


def recipe_from(folder: Path, text: str = RECIPE) -> Recipe:
    """Load a recipe from text."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(text)
    return load_recipe(path)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return the content of every tar and Parquet file of a stage folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in {".tar", ".parquet"}}
