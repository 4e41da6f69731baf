"""What must hold before anything of a pack leaves this machine."""

from collections.abc import Iterator
from pathlib import Path

from curation.commands.card.origin import Origin
from curation.commands.card.stage import check_card
from curation.commands.verify.check import living_faults, verify
from curation.dataset.tombstones import consult
from curation.errors import VerificationError
from curation.printable import counted
from curation.run.runner import OnOutcome, Spread, silent

NUM_SHOWN = 10


def require_fit(origin: Origin, card: Path | None, spread: Spread, on_outcome: OnOutcome = silent) -> None:
    """Make sure that a pack is whole, of what is curated now, without anybody who was forgotten, and its card true.

    Raises:
        VerificationError: it does not; all that was found is named.
        UsageError: a `forget` was interrupted.
    """
    consult(origin.pack.folder)
    if origin.run is not None:
        consult(origin.run / origin.pack.stage)
    faults = list(_faults(origin, card, spread, on_outcome))
    if faults:
        more = [f"  and {len(faults) - NUM_SHOWN} more"] if len(faults) > NUM_SHOWN else []
        raise VerificationError(
            f"{origin.pack.folder}: not fit to be published; nothing was sent:",
            *(f"  {fault}" for fault in faults[:NUM_SHOWN]), *more,
        )  # fmt: skip


def _faults(origin: Origin, card: Path | None, spread: Spread, on_outcome: OnOutcome) -> Iterator[str]:
    pack = origin.pack.folder
    if origin.run is None:
        yield f"{pack}: its run is not known, nor who was forgotten there; right would be: name it by --run"
        return
    if origin.is_superseded:
        yield f"{pack}: superseded by what `curate` holds now; right would be: pack again into a new folder"
        return
    yield from map(str, living_faults(origin.run, (origin.pack,), set()))
    yield from map(str, verify(pack, spread, on_outcome).faults)
    if origin.manifest.failed:
        yield f"{pack}: {counted(len(origin.manifest.failed), 'shard')} failed; right would be: run `pack` again"
    if card is not None:
        yield from (f"{card}: {fault}" for fault in check_card(pack, card, origin.run))
