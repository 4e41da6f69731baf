"""`repair`: tars that cannot be read as they are, written anew with every picture that is in them.

Each tar appears whole or not at all and depends on its source alone, so a repair that was interrupted is run again.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.commands.repair.regroup import Regrouped, regroup
from curation.commands.repair.salvage import salvage
from curation.dataset.manifest import MANIFEST_NAME, STATS_SUFFIX, WORK_NAME, stats_path
from curation.dataset.sources import SourceShard, shards_in
from curation.dataset.sources.counts import stated_count
from curation.dataset.sources.files import REPAIR_NAME
from curation.dataset.sources.made import PackedTar
from curation.dataset.sources.shard import TarShard
from curation.dataset.tar.texts import parse_object
from curation.dataset.tar.write import TarWriter
from curation.errors import ShardError, UsageError
from curation.run.sources import Difference, require_all, with_sha256s
from curation.run.target import OWN_FOLDERS
from curation.storage.lease import hold
from curation.storage.paths import is_local, resolved
from curation.storage.publish import TEMP_FOLDER, publish, publish_json, publish_sealed, read_sealed, remove_folder

SOURCE_SHA256 = "source_sha256"
"""Key of the file beside a repaired tar: the sha256 of the tar that it was made from."""


@dataclass(frozen=True)
class Repaired:
    """What became of one tar."""

    shard: str
    num_pictures: int
    skipped: dict[str, int]
    """Members that were left out, by why."""
    renamed: dict[str, str]
    """New key -> the key that the picture shared with another."""
    notes: tuple[str, ...]
    losses: tuple[str, ...]
    """What is gone, or may be; nothing where every picture that was ever in it is there."""


def repair(source: Path, target: Path) -> list[Repaired]:
    """Write the tars of `source` anew into the folder `target`, and return what became of each.

    Members that are nobody's are left out, those of a sample are brought together, samples stand in order of key, and
    of a repeated key the first keeps it. Beside each tar its count is written, which `curate` holds it against. Tars
    that came to the source since the last time are added.

    Raises:
        UsageError: `source` holds no tar, or one that a stage wrote, in its folder or by a link; `target` is not empty,
            inside `source`, or a repair of tars that `source` does not hold as they were.
        LeaseError: another repair works in `target`.
        StorageError: a disk refuses.
    """
    shards = _shards(source)
    _require_own(source, target, shards)
    with hold(target):
        _require_own(source, target, shards)
        sha256s = _held_against(source, target, shards)
        publish_sealed(target / REPAIR_NAME, _record(source, [], is_finished=False))
        repaired = [_repaired(shard, target, sha256s.get(shard.name)) for shard in shards]
        publish_sealed(target / REPAIR_NAME, _record(source, repaired, is_finished=True))
        if is_local(target):
            remove_folder(target / TEMP_FOLDER)
    return repaired


def _shards(source: Path) -> list[SourceShard]:
    """Return the tars of a source.

    Raises:
        UsageError: there is none, or one is a stage's: what is repaired leaves no card there, and no takedown finds it.
    """
    _require_foreign(source, resolved(source))
    shards = shards_in(source)
    for folder in _folders(shards):
        _require_foreign(source, folder)
    if not all(isinstance(shard, TarShard | PackedTar) for shard in shards):
        raise UsageError(f"{source}: holds no tar that could be repaired")
    return shards


def _require_foreign(source: Path, folder: Path) -> None:
    if (folder / WORK_NAME).exists() or (folder / MANIFEST_NAME).exists():
        whose = "" if folder == resolved(source) else f" of {folder}, from which its tars come"
        raise UsageError(f"{source}: the output of a stage{whose}; what is damaged in it that stage makes anew")


def _require_own(source: Path, target: Path, shards: Sequence[SourceShard]) -> None:
    """Refuse a target that is not this repair's own folder.

    Raises:
        UsageError: it is the source's own folder or lies in it, or holds anything but an earlier repair of that source.
    """
    place = resolved(target)
    if source.is_dir():
        within = next((f for f in (resolved(source), *_folders(shards)) if place.is_relative_to(f)), None)
    else:
        within = next((folder for folder in (resolved(source.parent), *_folders(shards)) if place == folder), None)
    if within is not None:
        raise UsageError(
            f"{target}: lies in the folder of the source, {within}, which would hold every picture twice then; give a "
            f"new folder outside it"
        )
    names = {path.name for path in target.iterdir()} - OWN_FOLDERS if target.exists() else set()
    is_own = REPAIR_NAME in names and read_sealed(target / REPAIR_NAME)["source"] == _named(source)
    if names and not is_own:
        raise UsageError(f"{target}: not empty, and no repair of {source}; give a new folder")


def _folders(shards: Sequence[SourceShard]) -> list[Path]:
    """Return the folders that the tars really lie in."""
    return list(dict.fromkeys(resolved(shard.path).parent for shard in shards))


def _held_against(source: Path, target: Path, shards: Sequence[SourceShard]) -> dict[str, str]:
    """Return the sha256 of each tar that can be read.

    Raises:
        UsageError: `target` holds what was made of tars that are gone, or had other bytes.
    """
    known: dict[str, str | None] = {path.name.removesuffix(".tar"): None for path in target.glob("*.tar")}
    for path in target.glob(f"*{STATS_SUFFIX}"):
        known[path.name.removesuffix(STATS_SUFFIX)] = (parse_object(path.read_bytes()) or {}).get(SOURCE_SHA256, "")
    found = with_sha256s([(shard, None) for shard in shards], {shard.name for shard in shards}, 1)
    sha256s = {shard.name: sha256 for shard, sha256 in found}
    gone = sorted(known.keys() - sha256s.keys())
    changed = sorted(name for name in known.keys() & sha256s.keys() if known[name] not in (None, sha256s[name]))
    way = "the tars that it was made from, or another folder"
    require_all(source, target, Difference(tuple(gone), tuple(changed)), way)
    return {name: sha256 for name, sha256 in sha256s.items() if sha256 is not None}


def _record(source: Path, repaired: list[Repaired], *, is_finished: bool) -> dict[str, Any]:
    shards = {
        shard.shard: {**vars(shard), "notes": list(shard.notes), "losses": list(shard.losses)} for shard in repaired
    }
    return {"source": _named(source), "is_finished": is_finished, "shards": shards}


def _named(source: Path) -> str:
    return str(source.resolve() if is_local(source) else source)


def _repaired(shard: SourceShard, target: Path, sha256: str | None) -> Repaired:
    try:
        with shard.opened() as tar:
            saved = salvage(tar, shard.path)
            regrouped = regroup(saved.members, tar)
            publish(target / f"{shard.name}.tar", lambda temp: _write(temp, tar, regrouped))
    except ShardError as error:
        return Repaired(shard.name, 0, {}, {}, (), (str(error),))
    count = regrouped.num_pictures
    publish_json(stats_path(target, shard.name), {"count": count, "successes": count, SOURCE_SHA256: sha256})
    losses = (*saved.losses, *regrouped.losses, *_shortfall(shard.path, count + regrouped.skipped["repeated"]))
    skipped = {why: number for why, number in sorted(regrouped.skipped.items()) if number}
    renamed = {new: old for old, new in regrouped.renamed}
    return Repaired(shard.name, count, skipped, renamed, saved.notes, losses)


def _shortfall(path: Path, num_pictures: int) -> Iterator[str]:
    try:
        stated = stated_count(path)
    except ShardError as error:
        yield str(error)
        return
    if stated is not None and stated[0] > num_pictures:
        yield f"{stated[1]} says {stated[0]} pictures, and {num_pictures} are in it"


def _write(temp: Path, tar: Path, regrouped: Regrouped) -> None:
    with tar.open("rb") as file, closing(TarWriter(temp)) as writer:
        for name, header in regrouped.members:
            file.seek(header.start)
            writer.add_from(name, file, header.num_bytes)
