"""Who is to blame: finds the one picture that crashed, hung or filled the memory, and lets its neighbours pass.

A batch that fails is measured again one by one, in a new cell where the old one died; the picture that fails once more
is quarantined by name. Too many of them are no poison but a broken installation, and fail the shard.

Only what a living worker saw counts against a picture. Where an earlier attempt ended with pictures in work, nobody saw
why, so each of them is measured after its neighbours, alone, in a cell and with little memory; whoever passes is free.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from curation.errors import ShardError
from curation.measure.cascade import QUARANTINE, Entry, Measured, measure
from curation.measure.filter_set import load_bank
from curation.measure.fingerprint import look_at
from curation.recipe.judge import Verdict
from curation.recipe.recipe import Recipe
from curation.recipe.settings import CurateSettings, DecodeLimits
from curation.sandbox.in_flight import Intent
from curation.sandbox.parent import CELL
from curation.sandbox.protocol import CellFault

LITTLE = 4
"""A suspect gets this part of `max_measure_mib` first: a picture that fills a machine must not fill it again."""
MAX_LOSSES = 3
"""How many workers in a row may be lost while a picture has all the memory, alone, which failed with little just
before: it is not tried with more again. Ray tries a shard four times, so the last attempt finishes it."""
NUM_EARLY_SAMPLES = 1000
"""While fewer samples are seen, this stands for their number: a fraction of the first few says nothing."""
NUM_NAMED = 20

log = logging.getLogger(__name__)
Ask = Callable[[Sequence[Entry], int | None], list[Measured] | CellFault]
"""From pictures to what came of them; a number of MiB says that they are suspects, who get no more and go to a cell."""


class Quarantine:
    """Measures the pictures of one shard, and keeps the list of those that could not be."""

    def __init__(self, ask: Ask, shard: Path, settings: CurateSettings, intent: Intent) -> None:
        """Measure by `ask`; `shard` is what errors name."""
        self._ask, self._shard, self._settings, self._intent = ask, shard, settings, intent
        self.found: list[dict[str, str]] = []
        """uid, reason and message of every quarantined picture, in order."""
        self._num_seen = 0

    def measure(self, entries: Sequence[Entry]) -> list[Measured]:
        """Return what came of each entry, in order.

        Raises:
            ShardError: more pictures are quarantined than poison explains.
        """
        self._num_seen += len(entries)
        suspects = [i for i, entry in enumerate(entries) if entry.uid in self._intent.suspects]
        others = [i for i in range(len(entries)) if i not in suspects]
        measured = dict(zip(others, self._together([entries[i] for i in others]), strict=True))
        measured |= {i: self._suspect(entries[i]) for i in suspects}
        return [measured[i] for i in range(len(entries))]

    def require(self, num_seen: int) -> None:
        """Make sure that among the samples seen no more are quarantined than poison explains.

        Raises:
            ShardError: there are more; the message names them.
        """
        settings = self._settings
        if len(self.found) <= max(settings.max_quarantined, settings.max_quarantined_fraction * num_seen):
            return
        named = "; ".join("{uid} {reason} ({message})".format(**record) for record in self.found[:NUM_NAMED])
        raise ShardError(
            f"{self._shard}: {len(self.found)} samples could not be measured, more than curate.max_quarantined "
            f"({settings.max_quarantined}) and curate.max_quarantined_fraction ({settings.max_quarantined_fraction:g}) "
            f"allow; so many point to the installation or the limits, not to the pictures: {named}"
        )

    def _together(self, entries: Sequence[Entry]) -> list[Measured]:
        outcome = self._try(entries) if entries else []
        return [self._alone(entry) for entry in entries] if isinstance(outcome, CellFault) else outcome

    def _alone(self, entry: Entry) -> Measured:
        outcome = self._try([entry])
        return self._quarantined(entry, outcome) if isinstance(outcome, CellFault) else outcome[0]

    def _suspect(self, entry: Entry) -> Measured:
        """Measure alone a picture that was in work when a worker was lost: with little memory, then with all."""
        all_mib, num_losses = self._settings.max_measure_mib, self._intent.suspects[entry.uid]
        self._intent.begin([entry.uid])
        outcome = self._ask([entry], all_mib // LITTLE)
        self._intent.end(still_suspect=isinstance(outcome, CellFault))
        if isinstance(outcome, CellFault) and num_losses < MAX_LOSSES:
            self._intent.begin([entry.uid], with_all_memory=True)
            outcome = self._ask([entry], all_mib)
            self._intent.end()
        elif isinstance(outcome, CellFault):
            lost = f"{num_losses} workers in a row were lost while it had {all_mib} MiB"
            outcome = CellFault(outcome.reason, f"{outcome.message} (with {all_mib // LITTLE} MiB; {lost})")
        return self._quarantined(entry, outcome) if isinstance(outcome, CellFault) else outcome[0]

    def _try(self, entries: Sequence[Entry]) -> list[Measured] | CellFault:
        self._intent.begin(entry.uid for entry in entries)
        outcome = self._ask(entries, None)
        self._intent.end()
        return outcome

    def _quarantined(self, entry: Entry, fault: CellFault) -> Measured:
        log.warning("%s: %s is quarantined: %s: %s", self._shard, entry.uid, fault.reason, fault.message)
        self.found.append({"uid": entry.uid, "reason": fault.reason, "message": fault.message})
        self.require(max(NUM_EARLY_SAMPLES, self._num_seen))
        return Measured(refused=Verdict(QUARANTINE, fault.reason))


def quarantine(
    recipe: Recipe, weights: Mapping[str, str], shard: Path, intent_path: Path
) -> AbstractContextManager[Quarantine]:
    """Yield what measures the pictures of one shard; the intent goes when the block ends with the worker alive."""

    def ask(entries: Sequence[Entry], mib: int | None) -> list[Measured] | CellFault:
        if recipe.file.curate.isolate or mib is not None:
            return CELL.measure(entries, recipe, weights, mib)
        return measure(entries, load_bank(recipe, weights), recipe)

    return _watched(ask, shard, recipe.file.curate, intent_path)


def looking(
    limits: DecodeLimits, settings: CurateSettings, shard: Path, intent_path: Path
) -> AbstractContextManager[Quarantine]:
    """Yield what looks at the pictures of one shard, as `quarantine` measures them."""

    def ask(entries: Sequence[Entry], mib: int | None) -> list[Measured] | CellFault:
        if settings.isolate or mib is not None:
            return CELL.look(entries, limits, settings, mib)
        return look_at(entries, limits)

    return _watched(ask, shard, settings, intent_path)


@contextmanager
def _watched(ask: Ask, shard: Path, settings: CurateSettings, intent_path: Path) -> Iterator[Quarantine]:
    intent = Intent(intent_path)
    try:
        yield Quarantine(ask, shard, settings, intent)
    finally:
        intent.close()
