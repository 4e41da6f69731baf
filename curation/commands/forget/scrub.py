"""Takes forgotten images out of folders that are no stage's: caches, and what somebody names."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commands.forget.copies import (
    LOOSE,
    MADE_ANEW_BY,
    NAMED,
    TABLE,
    TAR,
    Holding,
    holdings,
    home_of,
    links_out,
    look,
    mend_of,
    names_of,
)
from curation.commands.forget.reach import Copy
from curation.commands.forget.traces import Traces, rows_that_tell
from curation.dataset.label_file import REVIEW_FOLDER, held, without
from curation.dataset.tar import copy_without
from curation.errors import FaceCaptionError, LeaseError
from curation.run.derived import CACHE, FEATURES, WORK
from curation.storage.lease import hold
from curation.storage.lock import all_alone
from curation.storage.paths import local_copy
from curation.storage.publish import publish, remove

LINK_HINT = "give the folder where that lies by --also, too"
PLAIN = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


@dataclass(frozen=True)
class Scrubbed:
    """What became of a folder."""

    folder: str
    kind: str
    rewritten: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    """File -> why it still holds, or may hold, an image."""


def scrub(copy: Copy, traces: Traces, reached: Iterable[Path] = ()) -> Scrubbed:
    """Erase every trace in a folder; a tar loses samples, a table rows, and what is made anew goes.

    What lies behind a link that leads out of all that is `reached` is not touched, but named.
    """
    done, links = Scrubbed(str(home_of(copy.folder, copy.kind)), copy.kind), links_out(copy.folder, reached, copy.kind)
    done.left.update(unentered(copy.folder, links))
    try:
        with _without_others(copy):
            _scrub(copy, traces, links, done)
    except LeaseError as error:
        done.left["."] = str(error)
    return done


def _without_others(copy: Copy) -> AbstractContextManager[object]:
    """Keep out who adds to a folder; training, where many do, adds nothing that it could know to be forgotten."""
    if copy.kind == FEATURES:
        return hold(copy.folder)
    return all_alone(copy.folder) if copy.kind in (CACHE, WORK) else nullcontext()


def _scrub(copy: Copy, traces: Traces, links: Mapping[str, Path], done: Scrubbed) -> None:
    _let_adding_end(copy)
    for holding in list(holdings(copy.folder, traces, kind=copy.kind, file=copy.file)):
        if copy.kind in MADE_ANEW_BY:
            done.left[holding.file] = f"{holding.why}; {mend_of(copy.kind)}"
            continue
        path = copy.folder / holding.file
        if holding.file in links:
            done.left[holding.file] = f"a link to {links[holding.file]}, which {holding.why}; {LINK_HINT}"
            continue
        try:
            _erase(path, holding, copy, traces, done)
        except (FaceCaptionError, OSError, pa.ArrowException) as error:
            done.left[holding.file] = str(error)


def _let_adding_end(copy: Copy) -> None:
    """Wait for whoever adds to labels and saw no tombstone yet; who comes later sees those that stand now."""
    for name in names_of(copy.folder, copy.kind, copy.file) if copy.kind == REVIEW_FOLDER else ():
        with held(copy.folder / name):
            pass


def unentered(folder: Path, links: Mapping[str, Path]) -> dict[str, str]:
    """Return the links behind which nobody looked, to folders and to what is not there, and why."""
    return {
        name: f"a link to {end}, which is not entered; {LINK_HINT}"
        for name, end in links.items()
        if not (folder / name).is_file()
    }


def _erase(path: Path, holding: Holding, place: Copy, traces: Traces, done: Scrubbed) -> None:
    if not holding.is_known:
        done.left[holding.file] = holding.why
    elif place.kind == WORK or holding.form == LOOSE:
        remove(path)
        done.deleted.append(holding.file)
    elif place.kind == REVIEW_FOLDER:
        with held(path):
            content = without(path.read_bytes(), lambda line: traces.pattern.search(line) is not None)
            publish(path, lambda temp: temp.write_bytes(content))
        done.rewritten.append(holding.file)
    elif (write := _rewriting(path, holding, traces)) is not None:
        with local_copy(path) as whole:
            publish(path, partial(write, whole))
        done.rewritten.append(holding.file)
        if look(place.folder, holding.file, traces, whole=place.kind == NAMED) is not None:
            done.left[holding.file] = "still tells of an image, after all that could be taken out of it; remove it"
    else:
        done.left[holding.file] = "tells of an image, in a form that nothing here can take it out of; remove it"


def _rewriting(path: Path, holding: Holding, traces: Traces) -> Callable[[Path, Path], object] | None:
    """Return what writes a file without the images, from itself to a target; None where nothing can."""
    if holding.form == TAR:
        return lambda whole, target: copy_without(whole, target, holding.keys, path)
    if holding.form == TABLE:
        return partial(_drop, traces=traces)
    return None


def _drop(whole: Path, target: Path, traces: Traces) -> None:
    with pq.ParquetFile(whole) as came:
        schema = came.schema_arrow
        with pq.ParquetWriter(target, schema, compression="zstd", version="2.6") as writer:
            for number in range(came.num_row_groups):
                for batch in came.iter_batches(row_groups=[number], use_threads=False):
                    writer.write_table(_without(pa.Table.from_batches([batch]), rows_that_tell(batch, traces)))


def _without(table: pa.Table, gone: pa.Array) -> pa.Table:
    """Return a table without some rows; Arrow filters no views, so those columns go through plain ones."""
    fields = [pa.field(field.name, PLAIN.get(field.type, field.type)) for field in table.schema]
    return table.cast(pa.schema(fields)).filter(pc.invert(gone)).cast(table.schema)
