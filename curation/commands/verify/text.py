"""What verifying found, for a terminal."""

from collections.abc import Iterator

from curation.commands.verify.faults import Verification
from curation.printable import joined


def tell(verification: Verification) -> str:
    """Return a line per fault, a line per note, and the sum of what was looked at."""
    return joined(_lines(verification))


def _lines(verification: Verification) -> Iterator[str]:
    for fault in verification.faults:
        yield f"FAULT {fault}"
    for note in verification.notes:
        yield f"note  {note}"
    what = "all is as it should be" if verification.ok else f"{len(verification.faults)} faults"
    yield f"{verification.num_shards} shards, {verification.num_files} files, {verification.num_bytes} bytes: {what}"
