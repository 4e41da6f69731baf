"""What `repair` did, for a terminal and as plain values."""

from collections.abc import Iterator, Sequence
from typing import Any

from curation.commands.repair.stage import Repaired
from curation.printable import counted, joined


def tell(repaired: Sequence[Repaired]) -> str:
    """Return what became of each tar: its pictures, what was left out and why, and what is gone."""
    return joined(line for shard in repaired for line in _lines(shard))


def values(repaired: Sequence[Repaired]) -> list[dict[str, Any]]:
    """Return the same as plain values, for JSON."""
    return [vars(shard) for shard in repaired]


def _lines(shard: Repaired) -> Iterator[str]:
    left_out = ", ".join(f"{number} {why}" for why, number in shard.skipped.items())
    yield f"{shard.shard}: {counted(shard.num_pictures, 'picture')}" + (f"; left out: {left_out}" if left_out else "")
    for new, old in shard.renamed.items():
        yield f"  {old!r} is called {new!r}: its key was another picture's, or too long"
    for note in shard.notes:
        yield f"  {note}"
    for loss in shard.losses:
        yield f"  lost: {loss}"
