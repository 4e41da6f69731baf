import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.places import ROOT

TOP_LEVEL = {"cli", "curation", "filters", "facemakeup", "configs"}
BANNED = {"yolov5-face", "ultralytics", "deface", "opencv-python", "opencv-contrib-python"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _wheel_from(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    (path,) = folder.glob("facecaptionhq-*.tar.gz")
    return path


def _wheel_from(source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder]
    subprocess.run([str(word) for word in (*command, source)], check=True, capture_output=True)
    (path,) = folder.glob("facecaptionhq-*.whl")
    return path


def test_the_wheel_holds_our_names_and_no_other(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0].removesuffix(".py") for name in names} == TOP_LEVEL
    assert {"configs/facecaptionhq-4m.toml", "configs/demo.toml", "filters/weights.toml"} <= set(names)
    assert any(name.endswith(".j2") for name in names)


def test_wheel_and_sdist_say_that_each_package_has_types(wheel: Path, sdist: Path) -> None:
    markers = {f"{name}/py.typed" for name in TOP_LEVEL - {"cli"}}
    assert markers <= set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        assert markers <= {name.partition("/")[2] for name in archive.getnames()}


def test_the_sdist_builds_the_wheel_that_the_checkout_builds(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    one, other = zipfile.ZipFile(wheel), zipfile.ZipFile(_wheel_from(sdist, tmp_path))
    assert one.namelist() == other.namelist()
    assert all(one.read(name) == other.read(name) for name in one.namelist())


def test_no_other_installed_distribution_claims_our_names() -> None:
    for distribution in distributions():
        if distribution.metadata["Name"] == "facecaptionhq":
            continue
        claimed = {str(file).split("/")[0].removesuffix(".py") for file in distribution.files or ()}
        assert not claimed & TOP_LEVEL, distribution.metadata["Name"]


def test_the_metadata_asks_for_no_package_with_a_second_cv2_and_none_under_gpl() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    names = {requirement.split(">")[0].split("=")[0].split("[")[0].strip() for requirement in asked}
    assert not names & BANNED
    locked = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert not locked & BANNED
    assert "opencv-python-headless" in locked


def test_the_locks_are_hashed_and_name_no_local_file() -> None:
    for lock in (
        ROOT / "requirements.lock",
        ROOT / "demo/requirements.lock",
        ROOT / "backends/yolov5-face/requirements.lock",
    ):
        text = lock.read_text()
        pins = [line for line in text.splitlines() if "==" in line]
        assert pins and all(line.endswith("\\") for line in pins)
        assert "file:" not in text and "+cpu" not in text and " @ " not in text


def test_the_wheel_works_in_an_empty_folder_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    probe = "import sys; sys.path = [p for p in sys.path if p != sys.argv[1]]; sys.path.insert(0, sys.argv[2]); "
    probe += "import cli, curation.recipe.recipe as r; "
    probe += "print(cli.__file__, r.bundled_recipes(), r.load_recipe('demo').name)"
    empty = tmp_path / "empty"
    empty.mkdir()
    command = [sys.executable, "-c", probe, str(ROOT), str(site)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=empty)
    assert result.stdout.startswith(str(site))
    assert "'demo', 'facecaptionhq-4m', 'published-literal'" in result.stdout
