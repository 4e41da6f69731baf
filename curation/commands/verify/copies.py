"""What was derived from a run and lies elsewhere, held against the run's tombstones."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.commands.forget.copies import Traces, holdings
from curation.commands.verify.faults import Fault
from curation.dataset.stages import STAGES
from curation.dataset.tombstones import IDENTITY, Tombstones, tombstones_of
from curation.errors import FaceCaptionError
from curation.run.derived import Derived, descendants
from curation.run.folders import StageFolder
from curation.run.lookup import ledgers_of
from curation.storage.paths import local_copy

RIGHT = "nothing of it; run forget again"


def living_copies(run: Path) -> Iterator[Fault]:
    """Yield where a forgotten image lives on in what was derived from a run; what is not there is no fault."""
    stones = tombstones_of(run)
    for derived in descendants(run) if stones else ():
        if not derived.is_there:
            continue
        if derived.stage in STAGES:
            yield from _living_rows(derived, stones)
            continue
        for holding in holdings(derived.folder, Traces(stones.uids), whole=False):
            if holding.is_known:
                yield Fault(f"{derived.folder}/{holding.file}", "tells of an image that was forgotten", RIGHT)


def _living_rows(derived: Derived, stones: Tombstones) -> Iterator[Fault]:
    place = StageFolder(derived.stage, derived.folder, str(derived.folder))
    try:
        for path, _ in ledgers_of(place):
            if path.is_file():
                with local_copy(path) as copy, pq.ParquetFile(copy) as ledger:
                    names = [name for name in IDENTITY if name in ledger.schema_arrow.names]
                    for batch in ledger.iter_batches(columns=names, use_threads=False):
                        for uid in stones.alive(batch):
                            yield Fault(str(path), f"{uid} was forgotten and is here all the same", RIGHT)
    except (FaceCaptionError, OSError, pa.ArrowException) as error:
        yield Fault(str(derived.folder), f"cannot be read: {error}", RIGHT)
