"""Every example does what its page says, run as a reader would run it."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFilter
from skimage import data

from curation.dataset.manifest import read_manifest
from curation.dataset.tar import read_samples
from tests.curation.shards import colourful, encode, mixed_source, recipe_from, sample_members, write_shard
from tests.curation.whole_run import url_of, write_metadata, write_run
from tests.places import ROOT

EXAMPLES = ROOT / "examples"
OWN_FILTER, OWN_PARTS = EXAMPLES / "own_filter", EXAMPLES / "own_parts"


def run(*words: object, path: Path | None = None, code: int = 0) -> str:
    """Return what a command says, run from outside the checkout without `FACECAPTIONHQ_FILTERS`.

    `path` is a further folder of packages, `code` the exit code that is expected.
    """
    environment = {name: value for name, value in os.environ.items() if name != "FACECAPTIONHQ_FILTERS"}
    folders = [str(path)] if path else []
    environment["PYTHONPATH"] = os.pathsep.join([*folders, str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, *(str(word) for word in words)]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def soft(seed: int) -> bytes:
    """Return an encoded picture of random hues without an edge in it."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    large = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(6))
    return encode(np.asarray(large), "JPEG", 64)


@pytest.mark.slow
def test_a_folder_of_tars_is_curated_and_packed_from_python(tmp_path: Path) -> None:
    source, recipe = mixed_source(tmp_path / "in"), recipe_from(tmp_path)
    said = run(EXAMPLES / "curate_a_folder.py", source, tmp_path / "run", recipe.path).splitlines()
    assert said[:4] == [
        "24 seen, 12 kept",
        "6 by colour: mean_channel_std_low",
        "3 by curate: duplicate_uid",
        "3 by unreadable: truncated",
    ]
    assert "00001 00110 mean_channel_std_low" in said and "00001 00100 kept" in said
    tars = sorted((tmp_path / "run" / "pack").glob("*.tar"))
    assert f"12 packed in {' '.join(tar.name for tar in tars)}" in said
    assert sum(len(list(read_samples(tar))) for tar in tars) == 12


def test_a_ledger_tells_verdicts_histograms_and_what_is_nearest_to_a_limit(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    curated = tmp_path / "run" / "curate"
    manifest = read_manifest(curated, "curate")
    said = run(EXAMPLES / "walk_a_ledger.py", curated)
    paths = [report.file(curated, ".parquet") for report in manifest.shards]
    rows = [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]
    num_grey = sum(row["rejected_by"] == "colour" for row in rows)
    assert num_grey and manifest.num_kept and num_grey + manifest.num_kept == len(rows)
    lines = ["".join(line.split()) for line in said.splitlines()]
    percent = round(100 * num_grey / len(rows), 1)
    assert f"│colour│mean_channel_std_low│{num_grey}│{percent}│" in lines
    assert f"colour_scores.mean_channel_std: 2 to inf stays; measured on {len(rows)} of {len(rows)} pictures" in said
    kept = [(row["colour_scores"]["mean_channel_std"], row["key"]) for row in rows if row["kept"]]
    score, key = min(kept)
    assert f"│true│{key}│{round(score, 4)}│{round(score - 2, 4)}│kept│" in lines


@pytest.mark.slow
def test_a_filter_of_ones_own_is_found_as_soon_as_its_wheel_is_installed(tmp_path: Path) -> None:
    site = installed(tmp_path)
    pictures = {"sharp": colourful(1), "soft": soft(2), "sharp_too": colourful(3)}
    source = tmp_path / "in"
    write_shard(source, "00000", [sample_members(key, image_bytes) for key, image_bytes in pictures.items()])
    command = ("-m", "cli", "curate", source, tmp_path / "out", "--recipe", OWN_FILTER / "recipe.toml", "--workers", 0)
    assert "2 kept + 1 by sharpness (laplacian_std_low 1)" in run(*command, path=site)
    rows = {row["key"]: row for row in pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()}
    assert rows["soft"]["rejected_by"] == "sharpness" and rows["sharp"]["kept"]
    assert rows["soft"]["sharpness_scores"]["laplacian_std"] < 10 < rows["sharp"]["sharpness_scores"]["laplacian_std"]


def test_without_its_wheel_the_recipe_is_told_that_there_is_no_such_filter(tmp_path: Path) -> None:
    said = run("-m", "cli", "curate", tmp_path, tmp_path / "out", "--recipe", OWN_FILTER / "recipe.toml", code=2)
    assert "filters[1].name: no filter 'sharpness'" in said


@pytest.mark.slow
def test_a_detector_of_ones_own_is_found_and_named_by_what_it_measured(tmp_path: Path) -> None:
    site = installed(tmp_path, OWN_PARTS)
    recipe, out = OWN_PARTS / "recipe.toml", tmp_path / "run" / "curate"
    told = run("-m", "cli", "doctor", "--recipe", recipe, path=site)
    for part in ("haar", "dct", "captions"):
        assert re.search(rf"{part}.*of facecaptionhq-parts 0\.1\.0", told), part
    pictures = {"someone": encode(data.astronaut(), "JPEG", 512), "cat": encode(data.chelsea(), "JPEG", 451)}
    write_shard(tmp_path / "in", "00000", [sample_members(key, content) for key, content in pictures.items()])
    command = ("-m", "cli", "curate", tmp_path / "in", out, "--recipe", recipe, "--workers", 0)
    assert "1 kept + 1 by faces (num_faces_low 1)" in run(*command, path=site)
    assert read_manifest(out).extra["plugins"] == {"faces": ["facecaptionhq-parts 0.1.0"]}
    assert "nothing to do" in run(*command, path=site)
    (metadata,) = site.glob("facecaptionhq_parts-*.dist-info")
    (metadata / "METADATA").write_text((metadata / "METADATA").read_text().replace("Version: 0.1.0", "Version: 0.2.0"))
    assert "holds the output of other work" in run(*command, path=site, code=2)


@pytest.mark.slow
def test_a_gate_of_ones_own_leaves_images_out_by_name_and_its_version_is_part_of_the_selection(tmp_path: Path) -> None:
    site, recipe = installed(tmp_path, OWN_PARTS), OWN_PARTS / "recipe.toml"
    faces, laion = write_metadata(tmp_path, 3)
    table = pq.read_table(laion)
    captions = ["IMG_0123.jpg", "portrait", *table["TEXT"].to_pylist()[2:]]
    pq.write_table(table.set_column(table.schema.get_field_index("TEXT"), "TEXT", [captions]), laion)
    command = ("-m", "cli", "rank", faces, laion, tmp_path / "rank", "--recipe", recipe, "--waiver", "nobody took them")
    run(*command, path=site)
    manifest = read_manifest(tmp_path / "rank")
    assert manifest.rejected["rank"] == {"own_captions_few_words": 1, "own_captions_file_name": 1}
    assert manifest.extra["inputs"]["own_gates"] == ["captions: facecaptionhq-parts 0.1.0"]
    rows = {row["url"]: row["reason"] for row in pq.read_table(tmp_path / "rank" / "ledger.parquet").to_pylist()}
    assert rows[url_of(0)] == "own_captions_file_name" and rows[url_of(1)] == "own_captions_few_words"
    loose = tmp_path / "loose.toml"
    loose.write_text(recipe.read_text().replace("min_words = 2", "min_word = 2"))
    said = run(*command[:5], tmp_path / "other", "--recipe", loose, "--waiver", "no", path=site, code=2)
    assert "entry point captions of facecaptionhq.gates" in said and "it takes `min_words`" in said


def test_without_its_wheel_a_recipe_says_which_detectors_there_are(tmp_path: Path) -> None:
    said = run("-m", "cli", "curate", tmp_path, tmp_path / "out", "--recipe", OWN_PARTS / "recipe.toml", code=2)
    assert "'haar' is none; choose one of yolov5-face, yolov5-face-torch, centerface" in said


def installed(folder: Path, example: Path = OWN_FILTER) -> Path:
    """Build an example's wheel and install it into a folder of its own, with nothing else."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
    build = ("wheel", "--no-deps", "--no-build-isolation", "-w", str(folder / "wheels"), str(example))
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = (folder / "wheels").glob("*.whl")
    modules = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    assert modules == {path.relative_to(example).as_posix() for path in example.glob("*/*.py")}
    target = ("install", "--no-deps", "--no-index", "--target", str(folder / "site"), str(wheel))
    subprocess.run([*pip, *target], check=True, capture_output=True)
    return folder / "site"
