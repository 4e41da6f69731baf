"""The catalogue of weights, and what is here of it, for a terminal."""

from collections.abc import Iterator, Sequence

from curation.printable import joined
from filters.weights import WeightsEntry, WeightsStatus


def tell_catalogue(entries: Sequence[WeightsEntry]) -> str:
    """Return every entry as four lines: name, what it is, size and licence, hash, and who offers it."""
    return joined(line for entry in entries for line in _entry(entry))


def tell_statuses(statuses: Sequence[WeightsStatus]) -> str:
    """Return one line per entry: where its verified file lies, or what is wrong; merely missing is said apart."""
    return joined(_status(status) for status in statuses)


def _entry(entry: WeightsEntry) -> Iterator[str]:
    yield entry.name
    yield f"  {entry.about}"
    yield f"  {entry.num_bytes:,} bytes, licence: {entry.licence}"
    yield f"  sha256 {entry.sha256}"
    yield f"  offered by {' and '.join(entry.addresses) or entry.publisher or entry.distribution or 'this package'}"


def _status(status: WeightsStatus) -> str:
    mark = "ok     " if status.found else "WRONG  " if status.is_wrong else "missing"
    return f"{mark} {status.entry.name}: {status.found.path if status.found else status.problem}"
