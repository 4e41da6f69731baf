"""What an import wrote, for a terminal."""

from collections.abc import Iterator
from pathlib import Path

from curation.commands.importing.convert import Imported
from curation.printable import counted, joined

NUM_NAMED = 5


def tell(imported: Imported, target: Path) -> str:
    """Return how many rows went where, a line per kind of fault with where the first stands, and what was not read."""
    return joined((f"{counted(imported.num_rows, 'row')} in {target}", *_lines(imported)))


def _lines(imported: Imported) -> Iterator[str]:
    if imported.lost_rows:
        lost = ", ".join(f"{count} {reason}" for reason, count in imported.lost_rows.items())
        yield f"  of {counted(imported.num_rows_in, 'row')} of the source: {lost}"
    for fault, count in imported.faults.items():
        example = imported.examples.get(fault)
        yield f"  {fault}: {count}" + (f" (first: {example})" if example else "")
    for file, names in list(imported.lacking.items())[:NUM_NAMED]:
        yield f"  {file} lacks {', '.join(names)}"
    for name, why in list(imported.left_out.items())[:NUM_NAMED]:
        yield f"  not read: {name}: {why}"
    for named, what in ((imported.lacking, "files that lack columns"), (imported.left_out, "names that were not read")):
        if len(named) > NUM_NAMED:
            yield f"  {len(named) - NUM_NAMED} more {what}"
    if imported.no_safety:
        yield "  no column says whether a picture is safe: `rank` will want --waiver"
