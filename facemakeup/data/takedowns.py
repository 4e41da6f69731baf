"""What the trainer owes to takedowns: it takes nothing that was forgotten, and can be found by who forgets later."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from curation.dataset.tombstones import consult
from curation.errors import SafetyError, StorageError
from curation.run.derived import homes_of, register
from curation.storage.paths import folders_of, location
from facemakeup.data.shards import Shard

log = logging.getLogger(__name__)

CACHE, WORK = "cache", "work"
"""What a folder is that was made from tars: sidecar tars named by uid; scans and copies, which are made anew."""


def require_remembered(shards: Sequence[Shard], keys: Any) -> None:
    """Refuse tars that hold what the run that they lie in has forgotten; `keys` are those of all samples, in Arrow.

    Raises:
        SafetyError: a sample is forgotten.
        UsageError: a `forget` was interrupted there.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for folder in folders_of(location(shard.address) for shard in shards):
        forgotten = consult(folder).uids
        known = pa.array(sorted(forgotten), pa.string())
        if forgotten and len(living := keys.filter(pc.is_in(keys, value_set=known))):
            raise SafetyError(
                f"{folder}: holds {living[0].as_py()}, which was forgotten; run `facecaptionhq forget` again"
            )


def leave_cards(shards: Sequence[Shard], made: Collection[tuple[str, Path]]) -> None:
    """Tell each folder that a stage wrote what is made from it, as (kind, folder), so that `forget` reaches that too.

    Tars lie in such a folder by their names or through links. Where they do not, or it cannot be written to, a warning
    says which folders have to be named to `forget`.
    """
    for folder in sorted({shard.folder for shard in shards}):
        homes = homes_of(location(shard.address) for shard in shards if shard.folder == folder)
        if not homes:
            _warn(folder, made, "its tars lie in no stage's folder")
        for source in homes:
            for one in made:
                try:
                    register(source, one[1], one[0], "")
                except (StorageError, OSError) as error:
                    _warn(str(source), [one], error)


def _warn(folder: str, made: Collection[tuple[str, Path]], why: object) -> None:
    targets = ", ".join(str(target) for _, target in made)
    log.warning("%s: `forget` will not find %s by itself (--also): %s", folder, targets, why)
