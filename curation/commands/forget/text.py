"""What a takedown did, for a terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.printable import joined


def tell(path: Path, receipt: Mapping[str, Any]) -> str:
    """Return the counts of a receipt, and last where it lies; no plain address is in it."""
    num_found = sum(answer["num_images"] > 0 for answer in receipt["requests"])
    return joined(
        (
            f"{len(receipt['requests'])} requests, {num_found} of them found: {receipt['num_images']} images",
            f"{len(receipt['rewritten'])} files rewritten, {len(receipt['deleted'])} deleted",
            str(path),
        )
    )
