"""What `gc` removed or would remove, for a terminal and as plain values."""

from collections.abc import Iterator
from typing import Any

from curation.commands.gc.collect import Collection


def tell(found: Collection, *, dry_run: bool) -> str:
    """Return a line per thing that went or would go, a line per thing that is left, and the sum of what went."""
    return "\n".join(_lines(found, dry_run))


def values(found: Collection, *, dry_run: bool) -> dict[str, Any]:
    """Return the same as plain values, for JSON."""
    return {"dry_run": dry_run, "removed": [vars(one) for one in found.removed], "left": found.left}


def _lines(found: Collection, dry_run: bool) -> Iterator[str]:
    for one in found.removed:
        yield f"{'would remove' if dry_run else 'removed'} {one.file}: {one.why}"
    for name in found.left:
        yield f"left {name}: named by nobody, but not of our kind or too young"
    yield f"{len(found.removed)} files, {found.num_bytes} bytes"
