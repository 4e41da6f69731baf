"""What verifying found, for a terminal."""

from collections.abc import Iterator

from curation.commands.verify.faults import Verification
from curation.printable import counted, joined


def tell(verification: Verification) -> str:
    """Return a line per fault, a line per note, and the sum of what was looked at."""
    return joined(_lines(verification))


def _lines(verification: Verification) -> Iterator[str]:
    for fault in verification.faults:
        yield f"FAULT {fault}"
    for note in verification.notes:
        yield f"note  {note}"
    yield f"{_looked_at(verification)}: {_what(verification)}"


def _looked_at(verification: Verification) -> str:
    counts = counted(verification.num_shards, "shard"), counted(verification.num_files, "file")
    return ", ".join((*counts, counted(verification.num_bytes, "byte")))


def _what(verification: Verification) -> str:
    if not verification.ok:
        return counted(len(verification.faults), "fault")
    if not verification.unfinished:
        return "all is as it should be"
    names = ", ".join(verification.unfinished)
    way_on = f"`facecaptionhq status {verification.run}` says how to go on"
    return f"what is done is as it should be, but this run is NOT FINISHED: {names}; {way_on}"
