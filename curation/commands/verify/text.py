"""What verifying found, for a terminal."""

from collections.abc import Iterator

from curation.commands.verify.faults import Verification


def tell(found: Verification) -> str:
    """Return a line per fault, a line per note, and the sum of what was looked at."""
    return "\n".join(_lines(found))


def _lines(found: Verification) -> Iterator[str]:
    for fault in found.faults:
        yield f"FAULT {fault}"
    for note in found.notes:
        yield f"note  {note}"
    what = "all is as it should be" if found.ok else f"{len(found.faults)} faults"
    yield f"{found.num_shards} shards, {found.num_files} files, {found.num_bytes} bytes: {what}"
