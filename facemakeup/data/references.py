"""Which photo, or which view of one, tells the network who is on a picture: a pure function of (seed, position)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from facemakeup.data.draws import generator
from facemakeup.data.held_out import Rows
from facemakeup.data.order import Place
from facemakeup.data.people import People, PeopleTable
from facemakeup.data.prepare import Appearance
from facemakeup.faces.augment import augmented
from facemakeup.train_config import TrainConfig

MAX_TRIES = 5
"""Photos of a person that are tried before a sample stands for itself."""
REFERENCE_NOTES = ("reference_paired", "reference_augmented", "reference_own")


@dataclass(frozen=True, eq=False)
class References:
    """Another photo of the person, where there is one; else another view of the photo, or the photo itself."""

    people: People | None
    augments: bool
    share: float
    """How many of the samples with another photo it stands for."""
    flip_probability: float
    """How many of these other photos are mirrored, whatever the sample is."""
    seed: int
    left_out: Rows
    """Which rows are not trained on."""

    @property
    def digest(self) -> str:
        """What a place in the stream depends on besides the samples: who belongs together, and who is left out."""
        if self.people is None:
            return ""
        return hashlib.sha256(self.people.digest.encode() + self.left_out.astype(np.int64).tobytes()).hexdigest()

    def others(self, place: Place) -> Iterator[int]:
        """Yield rows that may stand for a sample, in the order in which they are to be tried."""
        chance = generator(self.seed, place.position, "reference")
        if self.people is not None and chance.random() < self.share:
            yield from islice(self.people.others(place.row, chance), MAX_TRIES)

    def paired(self, look: Appearance, place: Place) -> Appearance:
        """Return the look of another photo as it stands for a sample."""
        mirrored = generator(self.seed, place.position, "view").random() < self.flip_probability
        return _noted(look, look.face_SSC[:, ::-1] if mirrored else look.face_SSC, "reference_paired")

    def own(self, look: Appearance, place: Place, flipped: bool) -> Appearance:
        """Return a sample's own look as it stands for it: another view, or as mirrored as the picture is."""
        if self.augments:
            chance = generator(self.seed, place.position, "view")
            return _noted(look, augmented(look.face_SSC, chance), "reference_augmented")
        return _noted(look, look.face_SSC[:, ::-1] if flipped else look.face_SSC, "reference_own")


def _noted(look: Appearance, face_SSC: Any, note: str) -> Appearance:
    return replace(look, face_SSC=face_SSC, notes=(*look.notes, note))


def references_of(config: TrainConfig, table: PeopleTable | None, keys: Any, left_out: Rows) -> References | None:
    """Return what stands for the samples of an index, whose keys are an Arrow array; None where all are themselves.

    `left_out` are rows that are not trained on.

    Raises:
        UsageError: the table of people names no pair.
    """
    settings = config.reference
    if table is None and not settings.augment:
        return None
    people = None if table is None else table.among(keys, left_out)
    chance = config.crop.flip_probability
    return References(people, settings.augment, settings.share, chance, config.seed, left_out)
