"""`repair`: tars that cannot be read as they are, written anew with every picture that is in them.

Each tar appears whole or not at all and depends on its source alone, so a repair that was interrupted is run again.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.commands.repair.regroup import Regrouped, regroup
from curation.commands.repair.salvage import salvage
from curation.dataset.manifest import MANIFEST_NAME, stats_path
from curation.dataset.sources import SourceShard, shards_in
from curation.dataset.sources.counts import stated_count
from curation.dataset.sources.files import OURS, REPAIR_NAME
from curation.dataset.sources.made import PackedTar
from curation.dataset.sources.shard import TarShard
from curation.dataset.tar.write import TarWriter
from curation.errors import ShardError, UsageError
from curation.storage.paths import is_local
from curation.storage.publish import TEMP_FOLDER, publish, publish_json, publish_sealed, read_sealed


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
    of a repeated key the first keeps it. Beside each tar its count is written, which `curate` holds it against.

    Raises:
        UsageError: `source` holds no tar, or is the output of a stage; `target` is not empty, or inside `source`.
        StorageError: a disk refuses.
    """
    shards = _shards(source)
    _claim(source, target)
    repaired = [_repaired(shard, target) for shard in shards]
    publish_sealed(target / REPAIR_NAME, _record(source, repaired, is_finished=True))
    if is_local(target):
        shutil.rmtree(target / TEMP_FOLDER, ignore_errors=True)
    return repaired


def _shards(source: Path) -> list[SourceShard]:
    if source.is_dir() and ((source / OURS).exists() or (source / MANIFEST_NAME).exists()):
        raise UsageError(f"{source}: the output of a stage; what is damaged in it that stage makes anew")
    shards = shards_in(source)
    if not all(isinstance(shard, TarShard | PackedTar) for shard in shards):
        raise UsageError(f"{source}: holds no tar that could be repaired")
    return shards


def _claim(source: Path, target: Path) -> None:
    """Make `target` the folder of this repair.

    Raises:
        UsageError: it is the source's own folder, or holds anything but an earlier repair of that source.
    """
    folder = source if source.is_dir() else source.parent
    if target.resolve() == folder.resolve():
        raise UsageError(f"{target}: the folder of the source; give a new one, so that the source stays as it is")
    names = {path.name for path in target.iterdir()} - {TEMP_FOLDER} if target.exists() else set()
    if REPAIR_NAME in names and read_sealed(target / REPAIR_NAME)["source"] == _named(source):
        return
    if names:
        raise UsageError(f"{target}: not empty, and no repair of {source}; give a new folder")
    publish_sealed(target / REPAIR_NAME, _record(source, [], is_finished=False))


def _record(source: Path, repaired: list[Repaired], *, is_finished: bool) -> dict[str, Any]:
    shards = {
        shard.shard: {**vars(shard), "notes": list(shard.notes), "losses": list(shard.losses)} for shard in repaired
    }
    return {"source": _named(source), "is_finished": is_finished, "shards": shards}


def _named(source: Path) -> str:
    return str(source.resolve() if is_local(source) else source)


def _repaired(shard: SourceShard, target: Path) -> Repaired:
    try:
        with shard.opened() as tar:
            saved = salvage(tar, shard.path)
            regrouped = regroup(saved.members, tar)
            publish(target / f"{shard.name}.tar", lambda temp: _write(temp, tar, regrouped))
    except ShardError as error:
        return Repaired(shard.name, 0, {}, {}, (), (str(error),))
    count = regrouped.num_pictures
    publish_json(stats_path(target, shard.name), {"count": count, "successes": count})
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
