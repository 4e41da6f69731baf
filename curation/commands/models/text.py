"""The catalogue of weights, and what is here of it, for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from curation.printable import joined
from filters.weights import WeightsEntry, WeightsStatus, way_to_get


def tell_catalogue(entries: Sequence[WeightsEntry], places: Mapping[str, Path | None]) -> str:
    """Return every entry as six lines: name, what it is, size and licence, hash, who offers it, and where it lies.

    `places` says by name where a file lies; None where it is nowhere. Last comes how many are here.
    """
    num_here = sum(places[entry.name] is not None for entry in entries)
    told = f"here: {num_here} of {len(entries)}; `facecaptionhq models verify` checks their bytes"
    return joined((*(line for entry in entries for line in _entry(entry, places[entry.name])), told))


def tell_statuses(statuses: Sequence[WeightsStatus]) -> str:
    """Return one line per entry: where its verified file lies, or what is wrong; merely missing is said apart."""
    return joined(_status(status) for status in statuses)


def _entry(entry: WeightsEntry, place: Path | None) -> Iterator[str]:
    yield entry.name
    yield f"  {entry.about}"
    yield f"  {entry.num_bytes:,} bytes, licence: {entry.licence}"
    yield f"  sha256 {entry.sha256}"
    yield f"  offered by {' and '.join(entry.addresses) or entry.publisher or entry.distribution or 'this package'}"
    yield f"  here: {place}" if place is not None else f"  not here: {way_to_get(entry)}"


def _status(status: WeightsStatus) -> str:
    mark = "ok     " if status.found else "WRONG  " if status.is_wrong else "missing"
    return f"{mark} {status.entry.name}: {status.found.path if status.found else status.problem}"
