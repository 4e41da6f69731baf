"""What `gc` removed or would remove, for a terminal and as plain values."""

from collections.abc import Iterator
from typing import Any

from curation.commands.gc.collect import Collection
from curation.printable import counted, joined


def tell(collection: Collection, *, dry_run: bool) -> str:
    """Return a line per thing that went or would go, a line per thing that is left, and the sum of what went."""
    return joined(_lines(collection, dry_run))


def values(collection: Collection, *, dry_run: bool) -> dict[str, Any]:
    """Return the same as plain values, for JSON."""
    return {"dry_run": dry_run, "removed": [vars(removal) for removal in collection.removed], "left": collection.left}


def _lines(collection: Collection, dry_run: bool) -> Iterator[str]:
    for removal in collection.removed:
        yield f"{'would remove' if dry_run else 'removed'} {removal.file}: {removal.why}"
    for name in collection.left:
        yield f"left {name}: named by nobody, but not of our kind or too young"
    yield f"{counted(len(collection.removed), 'file')}, {counted(collection.num_bytes, 'byte')}"
