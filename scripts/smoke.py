"""Tries the product on this Python: every module, help, doctor, and five pictures curated, packed and verified.

`scripts/smoke.sh` calls it in a new environment; by hand: `.venv/bin/python scripts/smoke.py EMPTY_FOLDER`.
"""

import importlib
import io
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from curation.dataset.tar import write_tar
from demo import photos
from demo.photos import Photo

OURS = ("cli", "curation", "filters", "facemakeup", "configs")
LAZY = (
    *("accelerate", "cv2", "datasets", "diffusers", "duckdb", "easyocr", "imagehash", "img2dataset", "jinja2", "onnx"),
    *("onnxruntime", "peft", "ray", "s3fs", "safetensors.torch", "shapely", "tensorboard", "torchvision"),
    *("transformers", "webdataset"),
)
"""What our modules import only where they use it, so that importing them proves nothing of it."""
VERDICTS = {"astronaut": "kept", "cameraman": "colour", "hopper": "kept", "meme": "text", "pair": "faces"}
"""Picture -> what the recipe `demo` must decide: kept, or the filter that rejects it."""


class SmokeError(Exception):
    """Something does not work on this Python."""


def main(folder: Path) -> int:
    """Try everything in an empty folder; return 0 where all of it works."""
    source, run = folder / "source", folder / "run"
    recipe, workers = ("--recipe", "demo"), ("--workers", "1")
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # which img2dataset imports, and which else asks the network
    try:
        print(f"{len([importlib.import_module(name) for name in modules()])} modules imported", flush=True)
        facecaptionhq("--help")
        facecaptionhq("doctor", *recipe)
        write_pictures(source)
        facecaptionhq("curate", source, run / "curate", *recipe, *workers)
        require_verdicts(run / "curate")
        facecaptionhq("pack", run / "curate", run / "pack", *recipe, *workers)
        require_packed(run / "pack")
        facecaptionhq("verify", run, *workers)
    except (SmokeError, ImportError) as error:
        print(f"smoke: CPython {sys.version.split()[0]}: {error}", file=sys.stderr)
        return 1
    print(f"smoke: CPython {sys.version.split()[0]}: all is well")
    return 0


def modules() -> Iterator[str]:
    """Yield the name of every module of ours, and of the libraries that these import late."""
    for name in OURS:
        yield name
        folders = getattr(importlib.import_module(name), "__path__", ())
        yield from (found.name for found in pkgutil.walk_packages(folders, f"{name}."))
    yield from LAZY


def facecaptionhq(*words: str | Path) -> None:
    """Run one command.

    Raises:
        SmokeError: it leaves with another code than 0.
    """
    command = [str(word) for word in (Path(sys.executable).parent / "facecaptionhq", *words)]
    print(f"$ facecaptionhq {' '.join(command[1:])}", flush=True)
    code = subprocess.run(command, check=False).returncode
    if code != 0:
        raise SmokeError(f"`facecaptionhq {words[0]}` left with {code}, not with 0")


def write_pictures(folder: Path) -> None:
    """Write one shard of five pictures in img2dataset's form."""
    hopper, astronaut = photos.hopper(), photos.astronaut()
    pictures = {
        "astronaut": astronaut,
        "cameraman": photos.cameraman(),
        "hopper": hopper,
        "meme": photos.captioned(hopper, "ONE DOES NOT SIMPLY", "SMOKE EVERY PYTHON"),
        "pair": photos.side_by_side((hopper, astronaut), 480),
    }
    folder.mkdir(parents=True)
    write_tar(folder / "00000.tar", [member for name, photo in pictures.items() for member in _members(name, photo)])


def _members(key: str, photo: Photo) -> Iterator[tuple[str, bytes]]:
    file = io.BytesIO()
    photo.image.save(file, "JPEG", quality=90)
    metadata = {"url": f"http://example.org/{key}.jpg", "width": photo.image.width, "height": photo.image.height}
    yield f"{key}.jpg", file.getvalue()
    yield f"{key}.json", json.dumps(metadata).encode()
    yield f"{key}.txt", photo.alt_text.encode()


def require_verdicts(curated: Path) -> None:
    """Make sure that each picture was judged as it must be.

    Raises:
        SmokeError: one was not.
    """
    rows = pq.read_table(curated / "00000.parquet", columns=["url", "rejected_by"], partitioning=None).to_pylist()
    found = {Path(row["url"]).stem: row["rejected_by"] or "kept" for row in rows}
    if found != VERDICTS:
        raise SmokeError(f"{curated}: the verdicts are {found}, not {VERDICTS}")


def require_packed(packed: Path) -> None:
    """Make sure that `webdataset` reads the kept pictures, and no others.

    Raises:
        SmokeError: it reads something else.
    """
    import webdataset

    shards = sorted(str(path) for path in packed.glob("*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    found = sorted(sample["json"]["url"] for sample in samples)
    wanted = sorted(f"http://example.org/{name}.jpg" for name, verdict in VERDICTS.items() if verdict == "kept")
    if found != wanted:
        raise SmokeError(f"{packed}: it holds {found}, not {wanted}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
