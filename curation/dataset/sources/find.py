"""Finds out what a source is, and cuts it into shards: the same ones each time, in order of name."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from curation.dataset.sources.files import files_of
from curation.dataset.sources.made import PackedTar, RowShard
from curation.dataset.sources.pictures import Folder, folder_of, picture_shards
from curation.dataset.sources.rows import count_rows, has_pictures
from curation.dataset.sources.shard import NUM_SHARD_SAMPLES, SourceShard, TarShard, UnreadableShard
from curation.dataset.tar.names import is_rare
from curation.dataset.tar.texts import parse_object
from curation.errors import ShardError, UsageError
from curation.printable import counted
from curation.storage.paths import local_copy

log = logging.getLogger(__name__)

TAR, PACKED, TABLES = (".tar",), (".tar.gz", ".tgz"), (".parquet", ".arrow")
UNREAD = (
    *(".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz", ".tar.zst", ".tzst", ".tar.lz4", ".tar.lzma", ".tlz", ".tar.br"),
    *(".tar.z", ".zip", ".7z", ".rar"),
)
"""Archives that may hold pictures, and that nothing here reads."""
NUM_NAMED = 10
"""Files that are left out and named."""
SAVED_STATE = "state.json"
"""Names the files of a data set that `datasets` saved to disk."""
PICTURES, ARCHIVES = "pictures", "archives of a kind that is not read"
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
    files = files_of(source)
    folder = folder_of(files)
    tables = _tables(source, files)
    found = _forms(files, tables, folder)
    if len(found) > 1 or ARCHIVES in found:
        forms = "; ".join(f"{len(names)} {form} (first: {names[0]})" for form, names in found.items())
        raise UsageError(
            f"{source}: holds {forms}: one form is read, and the rest would be lost unsaid; unpack what is packed, and "
            f"move all but one form out of this folder, to curate each by itself"
        )
    if not found or PICTURES not in found:
        if rare := tuple(file for file in files if is_rare(file)):
            what = f"{counted(len(rare), 'file')} of rarer kinds of pictures"
            _tell_left_out(source, rare, f"left out beside what is read: {what}")
        return _of_files(source, next(iter(found.values()), ()))
    if folder.others:
        _tell_left_out(source, folder.others)
    return list(picture_shards(source, folder))


@cache
def _tell_left_out(source: Path, files: tuple[str, ...], what: str = "") -> None:
    """Name what is left out of a folder, once in a process however often it is looked through."""
    named = ", ".join(files[:NUM_NAMED]) + (f" and {len(files) - NUM_NAMED} more" * (len(files) > NUM_NAMED))
    what = what or ("1 file is neither a picture nor a picture's text, and is left out" if len(files) == 1 else (
        f"{len(files)} files are neither pictures nor a picture's text, and are left out"
    ))  # fmt: skip
    log.warning("%s: %s: %s", source, what, named)


def _forms(files: Sequence[str], tables: Sequence[str], folder: Folder) -> dict[str, list[str]]:
    """Return the files that hold pictures by the form that they have, of each form that is there."""
    tars = [file for file in files if _ends(file, (*TAR, *PACKED))]
    pictures = [sample[0][1] for sample in folder.samples]
    if tars or tables:  # a logo or a depth beside them is an extra
        pictures = [file for file in pictures if not is_rare(file)]
    forms = {
        "tars": [file for file in tars if "/" not in file],
        "tars in folders below it": [file for file in tars if "/" in file],
        "tables of pictures": list(tables),
        PICTURES: pictures,
        ARCHIVES: [file for file in files if _ends(file, UNREAD)],
    }
    return {form: names for form, names in forms.items() if names}


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
    """Return the tables among files, where one of them holds pictures; of a saved data set, those that it names.

    Beside tars they are those that hold pictures, but for the table of a tar, which is called as the tar.
    """
    if stems := {file[: -len(end)] for file in files if (end := _ends(file, (*PACKED, *TAR)))}:
        tables = [file for file in files if _ends(file, TABLES) and file.rpartition(".")[0] not in stems]
        return [file for file in tables if _may_hold_pictures(source / file)]
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
    except (ShardError, UsageError):  # which column holds them is asked when it is read
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


def _ends(name: str, endings: Sequence[str]) -> str:
    """Return the ending of a name that is among these, in lower case, or nothing."""
    return next((ending for ending in endings if name.lower().endswith(ending)), "")
