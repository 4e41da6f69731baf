"""Fetches weights from their pinned addresses into the user's cache, converting what is published in another format."""

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from filters.base import WeightsFile
from filters.conversion.ncnn import ConversionError
from filters.conversion.tfjs import convert as convert_tfjs
from filters.conversion.yolov5_face import convert
from filters.weights import (
    SourceFile,
    WeightsEntry,
    WeightsError,
    cache_folder,
    entry_of,
    find_weights,
    how_to_get,
    verified,
)

CONVERSIONS: Mapping[str, Callable[..., bytes]] = MappingProxyType(
    {
        "ncnn_yolov5_face": convert,
        "tfjs_faceres": partial(
            convert_tfjs, outputs=("global_pooling/Mean", "age_pred/Softmax", "gender_pred/Sigmoid")
        ),
        "tfjs_mobileface": partial(convert_tfjs, outputs=("batchnorm0/add_1",)),
        "tfjs_emotion": partial(convert_tfjs, outputs=("Identity",)),
        "tfjs_mixed5": partial(convert_tfjs, outputs=("mixed5",)),
    }
)
"""Name in the catalogue -> what makes the file's bytes from those of its sources."""


MIRROR = "`--mirror` takes a folder or an address of your own that holds the same files"


def pull(name: str, accept: bool, mirror: str | None = None) -> WeightsFile:
    """Fetch the weights `name` into the user's cache, whole and verified or not at all.

    Without a mirror, weights that are here already are returned as they lie. Others come from their pinned address, or
    from `mirror`: a folder, or an address, that holds the same files under the same names. Their sha256 counts.

    Raises:
        WeightsError: the name is unknown, its terms are not accepted, no address is pinned, the fetch or the
            conversion fails, or the bytes have another sha256.
    """
    entry = entry_of(name)
    if mirror is None:
        with suppress(WeightsError):
            return find_weights(name)
    if mirror is None and entry.sources and not entry.addresses:
        raise WeightsError(f"no address is pinned for `{entry.name}`. {how_to_get(entry)}")
    return pull_entry(entry if mirror is None else _mirrored(entry, mirror), accept)


def pull_entry(entry: WeightsEntry, accept: bool) -> WeightsFile:
    """Fetch one entry's weights; see `pull`."""
    if not entry.url and not entry.sources:
        raise WeightsError(f"no address is pinned for `{entry.name}`. {how_to_get(entry)}")
    if entry.terms and not accept:
        how = f"To accept these terms: facecaptionhq models pull {entry.name} --accept"
        raise WeightsError(f"`{entry.name}`: {entry.terms}. {how}")
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / entry.file
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = _fetched(entry, Path(scratch))
            verified(entry.name, fresh, entry.sha256)
            fresh.replace(target)
    return verified(entry.name, target, entry.sha256)


def _mirrored(entry: WeightsEntry, mirror: str) -> WeightsEntry:
    """Return the entry with its addresses in `mirror`; where none is pinned, the file itself is looked for there."""

    def there(url: str) -> str:
        return f"{mirror.rstrip('/')}/{url.rpartition('/')[2]}"

    if entry.sources:
        return replace(entry, sources=tuple(replace(source, url=there(source.url)) for source in entry.sources))
    return replace(entry, url=there(entry.url or entry.file))


def _fetched(entry: WeightsEntry, folder: Path) -> Path:
    what = f"`{entry.name}`"
    if entry.sources:
        return _converted(entry, [_source(source, what, folder) for source in entry.sources], folder / entry.file)
    assert entry.url is not None, "an entry with an address has sources or a url"
    fetched = _download(entry.url, None if entry.member else entry.sha256, what, folder)
    if entry.member is None:
        return fetched
    return _or_weights_error(lambda: _unzip(fetched, entry, folder / entry.file), f"{entry.member} in {entry.url}")


def _source(source: SourceFile, what: str, folder: Path) -> bytes:
    return _download(source.url, source.sha256, what, folder).read_bytes()


def _converted(entry: WeightsEntry, sources: list[bytes], target: Path) -> Path:
    try:
        target.write_bytes(CONVERSIONS[entry.conversion or ""](*sources))
    except ConversionError as error:
        places = ", ".join(source.url for source in entry.sources)
        raise WeightsError(f"`{entry.name}` cannot be made from {places}: {error}") from error
    return target


def _download(url: str, sha256: str | None, what: str, folder: Path) -> Path:
    import pooch

    if "://" not in url:
        copied = _or_weights_error(lambda: Path(shutil.copy(url, folder)), f"{what} from {url}")
        return copied if sha256 is None else Path(verified(url, copied, sha256).path)
    known = None if sha256 is None else f"sha256:{sha256}"
    name = url.rpartition("/")[2] or "fetched"
    return _or_weights_error(
        lambda: Path(pooch.retrieve(url, known_hash=known, fname=name, path=folder)), f"{what} at {url}"
    )


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
        raise WeightsError(f"cannot fetch {what}: {_why(error)}") from error


def _why(error: Exception) -> str:
    """Return in one line why a file did not come."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        error.response.close()
        return f"the server answers {error.response.status_code} {error.response.reason}; {MIRROR}"
    if isinstance(error, requests.ConnectionError | requests.Timeout) and not isinstance(
        error, requests.exceptions.SSLError
    ):
        return f"nobody answers there: is this machine online? If it is not to be, {MIRROR}"
    return " ".join(str(error).split())
