"""What a card holds, and what is wrong with one, for a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation.commands.card.numbers import NUMBERS
from curation.commands.card.stage import Card
from curation.commands.verify.faults import Fault
from curation.printable import joined

SAID = (
    "num_samples",
    "num_licences",
    "num_without_licence",
    "num_domains",
    "fetch_opted_out",
    "num_requests",
    "num_forgotten",
)


def values(card: Card) -> dict[str, Any]:
    """Return a card's numbers as plain values for JSON."""
    return {"folder": str(card.folder), "state": card.origin.manifest.state, "numbers": dict(card.values)}


def tell(card: Card) -> str:
    """Return where a card lies, its first numbers, and what is not known."""
    lines = [str(card.folder)]
    lines += [f"{name}: {_known(card.values[name])}" for name in SAID]
    unknown = sum(card.values[name] is None for name in NUMBERS)
    if card.origin.run is None:
        lines.append(f"the run of this pack is not known ({unknown} numbers are not): name it by --run")
    elif unknown:
        lines.append(f"{unknown} of {len(NUMBERS)} numbers are not known: the run lacks these ledgers or columns")
    return joined(lines)


def tell_faults(folder: Path, faults: Sequence[Fault]) -> str:
    """Return a line per difference, and what to do."""
    if not faults:
        return joined([f"{folder}: every number is what the ledgers give"])
    lines = [f"FAULT {fault}" for fault in faults]
    return joined([*lines, f"{folder}: {len(faults)} differences to what the ledgers give: make the card again"])


def _known(value: Any) -> Any:
    return "not known" if value is None else value
