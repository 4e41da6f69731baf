"""What a card holds, and what is wrong with one, for a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation.commands.card.numbers import NUMBERS, Values
from curation.commands.card.stage import TAKEDOWNS, Card
from curation.commands.verify.faults import Fault
from curation.printable import counted, joined

NUM_SHOWN, NUM_OF_EACH = 12, 3
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
    lines += warnings(card.values, card.statements.form)
    if card.origin.run is None:
        lines.append(f"the run of this pack is not known ({unknown} numbers are not): name it by --run")
    elif unknown:
        lines.append(f"{unknown} of {len(NUMBERS)} numbers are not known: the run lacks these ledgers or columns")
    return joined(lines)


def tell_faults(folder: Path, faults: Sequence[Fault], *, is_verbose: bool = False) -> str:
    """Return what differs, and what to do: where there is much of it, the first of every file, or all if verbose."""
    if not faults:
        return joined([f"{folder}: every number is what the ledgers give"])
    shown = list(faults) if is_verbose or len(faults) <= NUM_SHOWN else _first_of_each(faults)
    more = f"; -v names the other {len(faults) - len(shown)}" if len(shown) < len(faults) else ""
    is_before = any(fault.wrong.startswith(f"{TAKEDOWNS} is '") and fault.right != "None" for fault in faults)
    since = ", since somebody was forgotten after it was made" if is_before else ""
    what = f"{counted(len(faults), 'difference')} to what the ledgers give{since}: make the card again{more}"
    return joined([*(f"FAULT {fault}" for fault in shown), f"{folder}: {what}"])


def warnings(values: Values, form: str) -> list[str]:
    """Return what whoever publishes should know first."""
    num, without = values["num_samples"], values["num_without_url"]
    if form != "ids" or not isinstance(num, int) or not isinstance(without, int) or not without:
        return []
    of = f"none of {counted(num, 'sample')} has" if num == without else f"{without} of {counted(num, 'sample')} have no"
    an = "an address" if num == without else "address"
    return [
        f"WARNING: {of} {an}, and the form ids holds no picture: nobody who reads the table can come by these pictures "
        f"(--form pixels with --rights sends them)"
    ]


def _first_of_each(faults: Sequence[Fault]) -> list[Fault]:
    """Return some differences of every file, in order; of the values those of numbers come first."""
    by_file: dict[str, list[Fault]] = {}
    for fault in sorted(faults, key=lambda fault: not fault.wrong.startswith("numbers.")):
        by_file.setdefault(fault.file.partition(" line ")[0], []).append(fault)
    chosen = [fault for of_file in by_file.values() for fault in of_file[:NUM_OF_EACH]]
    return [fault for fault in faults if fault in chosen]


def _known(value: Any) -> Any:
    return "not known" if value is None else value
