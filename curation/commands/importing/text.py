"""What an import wrote, for a terminal."""

from pathlib import Path

from curation.commands.importing.convert import Imported
from curation.printable import joined


def tell(imported: Imported, target: Path) -> str:
    """Return how many rows went where, and a line per kind of fault."""
    faults = (f"  {fault}: {count}" for fault, count in imported.faults.items())
    return joined((f"{imported.num_rows} rows in {target}", *faults))
