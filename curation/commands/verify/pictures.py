"""What a tar must hold: exactly the kept samples of its ledger, in its order, each picture with its own sha256."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curation.commands.pack.members import picture_offsets
from curation.commands.verify.rows import Finding, Row
from curation.dataset.captions import captions_of
from curation.dataset.sample import Sample
from curation.dataset.stages import CURATE, FETCH, PACK, STAGES
from curation.dataset.tar import members_of, read_samples
from curation.dataset.tar.names import stray
from curation.errors import ShardError
from curation.images.containers import WALKERS, sniff_format

PACKED_FIELDS = ("uid", "sha256", "num_bytes", "source_sha256", "format", "width", "height", "caption_source")


def tar_findings(tar: Path, shown: Path, stage: str, shard: str, rows: Sequence[Row] | None) -> Iterator[Finding]:
    """Yield what is wrong with a tar; without its ledger's rows, only whether it is a whole one."""
    column = STAGES[stage].member_key
    expected = {row[column]: row for row in rows or () if row["kept"]}
    keys: list[str] = []
    try:
        for member in members_of(tar, shown):
            if stray(member.name):
                yield "", f"holds {member.name!r}, which is no sample's", "only what the ledger keeps"
        for sample in read_samples(tar, shown=shown):
            keys.append(sample.key)
            if rows is None:
                continue
            if sample.key not in expected:
                yield "", f"holds {sample.key!r}, which its ledger does not keep", "only what the ledger keeps"
                continue
            yield from _sample_findings(sample, expected[sample.key], stage, shard)
        if rows and "offset" in rows[0]:
            yield from _place_findings(tar, shown, rows)
    except ShardError as error:
        yield "", str(error).removeprefix(f"{shown}: "), "a whole tar of regular files, each sample's in one place"
        return
    present = set(keys)
    for key, row in expected.items():
        if key not in present:
            yield row["uid"], f"kept in the ledger, but {key!r} is not in the tar", "every kept sample in the tar"
    if rows is not None and present == set(expected) and keys != list(expected):
        yield "", "its samples stand in another order than in its ledger", "the order of the ledger"


def _sample_findings(sample: Sample, row: Row, stage: str, shard: str) -> Iterator[Finding]:
    uid = row["uid"]
    sha256 = hashlib.sha256(sample.image_bytes).hexdigest()
    if sample.problem is not None:
        yield uid, f"not a whole sample: {sample.problem}", "one picture with readable caption and metadata"
    if sha256 != row["sha256"]:
        yield uid, f"its picture has sha256 {sha256}", f"{row['sha256']}, as the ledger says"
    facts = FACTS.get(stage, _shared)(sample, row, shard)
    for name, (is_, should_be) in facts.items():
        if is_ != should_be:
            yield uid, f"{name} is {is_!r} in the tar", f"{should_be!r}, as the ledger says"


def _fetched(sample: Sample, row: Row, shard: str) -> dict[str, tuple[Any, Any]]:
    return {name: (sample.metadata.get(name), row[name]) for name in ("uid", "url", "sha256")}


def _curated(sample: Sample, row: Row, shard: str) -> dict[str, tuple[Any, Any]]:
    url = None if sample.url is None else sample.url.encode("utf-8", "replace").decode()
    told = {name: value for name, value in sample.metadata.items() if name == "facecaptions"}
    counts = [len(captions_of(sample.caption, metadata)) for metadata in (sample.metadata, told)]
    # The second is the count of releases before 0.3.0, which did not look for captions elsewhere in the metadata.
    return {
        "uid": (sample.uid(shard), row["uid"]),
        "url": (url, row["url"]),
        "num_bytes": (len(sample.image_bytes), row["num_bytes"]),
        "format": (sniff_format(sample.image_bytes, WALKERS), row["format"]),
        "num_captions": (row["num_captions"] if row["num_captions"] in counts else counts[0], row["num_captions"]),
    }


def _packed(sample: Sample, row: Row, shard: str) -> dict[str, tuple[Any, Any]]:
    facts = {name: (sample.metadata.get(name), row[name]) for name in PACKED_FIELDS}
    return {
        **facts,
        "caption": (sample.metadata.get("caption"), sample.caption),
        "shard": (shard, row["shard"]),
        "size of the picture": (len(sample.image_bytes), row["num_bytes"]),
    }


def _shared(sample: Sample, row: Row, shard: str) -> dict[str, tuple[Any, Any]]:
    """Return what the tar of any stage says of a sample that its ledger says too."""
    return {name: (sample.metadata[name], row[name]) for name in ("uid", "url") if name in sample.metadata}


FACTS = {FETCH.name: _fetched, CURATE.name: _curated, PACK.name: _packed}
"""Stage -> fact -> what the tar says, and what the ledger does; stages that are not named share `_shared`."""


def _place_findings(tar: Path, shown: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield the rows whose offset is not that of their picture's tar header."""
    headers = picture_offsets({member.name: member.offset for member in members_of(tar, shown)})
    for row in rows:
        offset = headers.get(row["key"])
        if row["kept"] and row["offset"] != offset:
            yield row["uid"], f"offset {row['offset']}", f"{offset}, where its picture's tar header stands"
