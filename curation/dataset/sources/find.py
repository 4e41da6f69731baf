"""Finds out what a source is, and cuts it into shards: the same ones each time, in order of name."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curation.dataset.sources.made import PackedTar, RowShard
from curation.dataset.sources.pictures import folder_of, picture_shards
from curation.dataset.sources.rows import count_rows, has_pictures
from curation.dataset.sources.shard import NUM_SHARD_SAMPLES, SourceShard, TarShard, UnreadableShard
from curation.dataset.tar.names import stray
from curation.dataset.tar.texts import parse_object
from curation.errors import ShardError, UsageError
from curation.storage.paths import filesystem, is_local, local_copy
from curation.storage.publish import read_sealed

log = logging.getLogger(__name__)

TAR, PACKED, TABLES = (".tar",), (".tar.gz", ".tgz"), (".parquet", ".arrow")
OURS = "work.json"
"""Whatever folder holds this is the output of a stage, and no source."""
REPAIR_NAME = "repair.json"
"""Says what `repair` did to the tars of a folder, and whether it came to its end."""
SAVED_STATE = "state.json"
"""Names the files of a data set that `datasets` saved to disk."""
FORMS = (
    "a folder of WebDataset tars (NNNNN.tar), one .tar, .tar.gz or .tgz, a folder of pictures, or Parquet or Arrow "
    "files with pictures in a column"
)


def shards_in(source: Path) -> list[SourceShard]:
    """Return the shards of a source that no manifest of ours describes: a file, or a folder.

    Raises:
        UsageError: there is nothing that could be read, or two shards would have one name.
    """
    if source.is_file():
        shards = _of_files(source.parent, [source.name])
    elif source.is_dir():
        shards = _of_folder(source)
    else:
        raise UsageError(f"{source}: no such folder or file; give {FORMS}")
    if not shards:
        raise UsageError(f"{source}: no *.tar in this folder, and no pictures either; give {FORMS}")
    twice = [name for name, count in Counter(shard.name for shard in shards).items() if count > 1]
    if twice:
        paths = ", ".join(str(shard.path) for shard in shards if shard.name == twice[0])
        raise UsageError(f"{source}: several files would be shard {twice[0]!r}: {paths}; move all but one elsewhere")
    return shards


def _of_folder(source: Path) -> list[SourceShard]:
    if (source / REPAIR_NAME).is_file() and not read_sealed(source / REPAIR_NAME)["is_finished"]:
        raise UsageError(f"{source}: its repair was interrupted; run the same `repair` again first")
    beside = sorted(path.name for path in source.iterdir() if not stray(path.name))
    if tars := [name for name in beside if _ends(name, (*TAR, *PACKED))]:
        if loose := folder_of(beside).samples:
            log.warning("%s: its tars are read; %d loose pictures are left out", source, len(loose))
        return _of_files(source, tars)
    files = sorted(file for file in _files_below(source) if not stray(file))
    if tars_below := [file for file in files if _ends(file, (*TAR, *PACKED))]:
        return _of_files(source, tars_below)
    tables = _tables(source, files)
    folder = folder_of(files)
    if tables:
        if folder.samples:
            log.warning("%s: its tables are read; %d loose pictures are left out", source, len(folder.samples))
        return _of_files(source, tables)
    if folder.others and folder.samples:
        log.warning(
            "%s: %d files are neither pictures nor a picture's text, and are left out (first: %s)",
            source, len(folder.others), folder.others[0],
        )  # fmt: skip
    return list(picture_shards(source, folder))


def _of_files(folder: Path, files: Sequence[str]) -> list[SourceShard]:
    """Return the shards of files that are shards by themselves, or tables."""
    shards: list[SourceShard] = []
    for file in files:
        path, ending = folder / file, _ends(file, (*PACKED, *TAR, *TABLES))
        name = file[: len(file) - len(ending)].replace("/", "_")
        if ending in TAR:
            shards.append(TarShard(name, path, is_counted=True))
        elif ending in PACKED:
            shards.append(PackedTar(name, path))
        elif ending in TABLES:
            shards += _row_shards(name, path)
        else:
            raise UsageError(f"{path}: not a file that can be curated; give {FORMS}")
    return shards


def _row_shards(name: str, path: Path) -> Iterator[SourceShard]:
    try:
        with local_copy(path) as local:
            if not has_pictures(local, path):
                raise UsageError(f"{path}: no column of it holds pictures; `import` reads tables of links")
            num_rows = count_rows(local, path)
    except ShardError as error:
        yield UnreadableShard(f"{name}-00000", path, str(error))
        return
    for number, first in enumerate(range(0, num_rows, NUM_SHARD_SAMPLES)):
        yield RowShard(f"{name}-{number:05d}", path, first, min(NUM_SHARD_SAMPLES, num_rows - first))


def _tables(source: Path, files: Sequence[str]) -> list[str]:
    """Return the tables among files, where one of them holds pictures; of a saved data set, those that it names."""
    saved = {file.removesuffix(SAVED_STATE): source / file for file in files if Path(file).name == SAVED_STATE}
    named = {folder + name for folder, state in saved.items() for name in _data_files(state)}
    if gone := sorted(named.difference(files)):
        raise UsageError(f"{source / gone[0]}: not here, and {SAVED_STATE} beside it names it")
    tables = [file for file in files if _ends(file, TABLES)]
    tables = [file for file in tables if file in named or _folder(file) not in saved]
    return tables if any(_may_hold_pictures(source / file) for file in tables) else []


def _may_hold_pictures(path: Path) -> bool:
    try:
        with local_copy(path) as local:
            return has_pictures(local, path)
    except ShardError:
        return True


def _folder(file: str) -> str:
    return file[: len(file) - len(file.rpartition("/")[2])]


def _data_files(state: Path) -> list[str]:
    entries: Any = (parse_object(state.read_bytes()) or {}).get("_data_files")
    listed = [entry.get("filename") for entry in entries or () if isinstance(entry, dict)]
    names = [name for name in listed if isinstance(name, str)]
    if not names or names != listed:
        raise UsageError(f"{state}: does not name the files of a data set (`_data_files`); save it anew")
    return names


def _files_below(source: Path) -> Iterator[str]:
    """Yield the path of every file below a folder, but for folders that a stage of ours wrote."""
    if not is_local(source):
        files, root = filesystem(source)
        found = [name.strip("/").removeprefix(root.strip("/")).strip("/") for name in files.find(root)]
        ours = tuple(file.removesuffix(OURS) for file in found if file.endswith("/" + OURS))
        yield from (file for file in found if not file.startswith(ours))
        return
    seen = set[str]()
    for folder, folders, files in os.walk(source, onerror=_refuse, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen or (OURS in files and folder != str(source)):
            folders.clear()
            continue
        seen.add(place)
        folders.sort()
        below = Path(folder).relative_to(source).as_posix()
        yield from (name if below == "." else f"{below}/{name}" for name in files)


def _refuse(error: OSError) -> None:
    raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _ends(name: str, endings: Sequence[str]) -> str:
    """Return the ending of a name that is among these, in lower case, or nothing."""
    return next((ending for ending in endings if name.lower().endswith(ending)), "")
