"""What `curate` reads: tars as they lie, and other forms of data sets, made into tars that are always the same."""

from curation.dataset.sources.find import shards_in
from curation.dataset.sources.shard import NUM_SHARD_SAMPLES, SourceShard, TarShard, source_layout, source_samples

__all__ = [
    "NUM_SHARD_SAMPLES",
    "SourceShard",
    "TarShard",
    "shards_in",
    "source_layout",
    "source_samples",
    "tars_beside",
]
