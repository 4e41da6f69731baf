"""Pieces of a corpus for the benchmarks: its first samples, cut into as many tars as are asked for."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from curation.commands.curate.origin import source_shards
from curation.dataset.sample import Sample
from curation.dataset.tar import read_samples, write_tar
from curation.errors import UsageError
from curation.images.containers import sniff_format


def first_samples(corpus: Path, number: int) -> list[Sample]:
    """Return so many whole samples in order of shard and place: a corpus that was mixed before is mixed in any part.

    Raises:
        UsageError: the folder holds fewer.
    """
    stream = chain.from_iterable(read_samples(shard.path) for shard, _ in source_shards(corpus))
    whole = list(islice((sample for sample in stream if sample.problem is None), number))
    if len(whole) < number:
        raise UsageError(f"{corpus}: holds {len(whole)} whole samples, and {number} are asked for")
    return whole


def write_shards(samples: Sequence[Sample], folder: Path, num_shards: int) -> Path:
    """Write `NNNNN.tar`, each with every `num_shards`-th sample, and return the folder."""
    folder.mkdir(parents=True)
    for shard in range(num_shards):
        members = (member for sample in samples[shard::num_shards] for member in _members(sample))
        write_tar(folder / f"{shard:05d}.tar", members)
    return folder


def write_pictures(samples: Sequence[Sample], folder: Path) -> Path:
    """Write each picture as a file, for programs that read no tars, and return the folder."""
    folder.mkdir(parents=True)
    for number, sample in enumerate(samples):
        kind = sniff_format(sample.image_bytes) or "bin"
        (folder / f"{number:06d}.{kind}").write_bytes(sample.image_bytes)
    return folder


def _members(sample: Sample) -> Iterator[tuple[str, bytes]]:
    yield f"{sample.key}.{sniff_format(sample.image_bytes) or 'img'}", sample.image_bytes
    yield f"{sample.key}.json", json.dumps(dict(sample.metadata), sort_keys=True).encode()
