"""The catalogue of weights, and what is here of it, for a terminal."""

from collections.abc import Sequence

from filters.weights import WeightsEntry, WeightsStatus


def tell_catalogue(entries: Sequence[WeightsEntry]) -> str:
    """Return every entry as four lines: name, what it is, size and licence, hash, and who offers it."""
    return "\n".join(_entry(entry) for entry in entries)


def tell_statuses(statuses: Sequence[WeightsStatus]) -> str:
    """Return one line per entry: where its verified file lies, or what is wrong; merely missing is said apart."""
    return "\n".join(_status(status) for status in statuses)


def _entry(entry: WeightsEntry) -> str:
    offered = " and ".join(entry.addresses) or entry.publisher or entry.distribution
    return (
        f"{entry.name}\n  {entry.about}\n  {entry.num_bytes:,} bytes, licence: {entry.licence}\n"
        f"  sha256 {entry.sha256}\n  offered by {offered}"
    )


def _status(status: WeightsStatus) -> str:
    mark = "ok     " if status.found else "WRONG  " if status.is_wrong else "missing"
    return f"{mark} {status.entry.name}: {status.found.path if status.found else status.problem}"
