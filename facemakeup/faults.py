"""What becomes of samples that cannot be used: counted by reason and named, and too many of them stop the run.

The seat of such a sample is given to a substitute (`facemakeup.data.order`); nothing is ever replaced by zeros.
"""

import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from filters.base import FaceCaptionError

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "torn_tar": "the tar ends, or stops being a tar, before this sample does",
        "duplicate_key": "members of this key came before; the first sample is used",
        "duplicate_member": "one member comes twice",
        "no_image": "no member is a picture",
        "several_images": "more than one member is a picture",
        "no_metadata": "there is no .json member",
        "broken_metadata": "the .json member is not an object, or a field is not what it should be",
        "no_caption": "there is neither a caption in .json nor a .txt member",
        "wrong_bytes": "the picture's sha256 is not the one in .json",
        "unreadable": "the decode gate refuses the picture; the detail says why",
        "wrong_size": "the decoded picture is not as large as .json says, so its landmarks mean nothing",
        "broken_mask": "the .mask member is no PNG of grey, or not as large as the sample's",
        "no_face": "no face_box or face_landmarks: pack with a recipe that keeps pictures with a face only",
        "degenerate_face": "the box has no area, or the landmarks fit no face",
        "no_embedding": "the recogniser gave no finite direction",
    }
)
"""Every reason for which the trainer cannot use a sample, and what it means."""
NUM_NAMED = 5
"""Samples that an error names for each reason."""


@dataclass(frozen=True)
class SampleFault:
    """One sample that was not used."""

    reason: str
    """A key of `REASONS`."""
    shard: str
    key: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.shard}: {self.key}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


class SampleFaultError(FaceCaptionError):
    """A sample cannot be used; becomes a recorded `SampleFault`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def at(self, shard: str, key: str) -> SampleFault:
        """Return the fault of this sample."""
        return SampleFault(self.reason, shard, key, self.detail)


class DataError(FaceCaptionError):
    """The data cannot be trained on: too many samples are faulty, or nothing is there; the message names them."""

    exit_code = 1


class ReadingError(FaceCaptionError):
    """A sample could not be read, and not by its own fault: a disk, a store, weights; names shard and sample."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message, exit_code)
        self.exit_code = exit_code  # type: ignore[misc]  # that of what came up

    def __str__(self) -> str:
        return str(self.args[0])


def told(error: BaseException) -> str:
    """Return an error in words, with the name of its kind and where it was raised, unless it is one of ours."""
    if isinstance(error, FaceCaptionError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1:]
    raised = "".join(f" (raised in {place.name}, {place.filename}:{place.lineno})" for place in where)
    return f"{type(error).__name__}: {error}{'' if isinstance(error, OSError) else raised}"


@dataclass(frozen=True)
class FaultLimit:
    """How much may be wrong before a run stops."""

    max_fraction: float
    """Largest share of faults among all samples that were drawn, 0..1."""
    min_count: int
    """Up to this many faults never stop a run."""

    def require(self, faults: Mapping[str, int], num_seen: int, examples: Iterable[SampleFault]) -> None:
        """Stop where the faults among `num_seen` samples are too many.

        Raises:
            DataError: names the counts by reason, and some of the samples.
        """
        num_faults = sum(faults.values())
        if num_faults <= max(self.min_count, self.max_fraction * num_seen):
            return
        counted = ", ".join(f"{reason} {count}" for reason, count in sorted(faults.items()))
        raise DataError(
            f"{num_faults} of {num_seen} samples cannot be used ({counted}); at most {self.max_fraction:.2%} may be "
            f"(data.max_fault_fraction), beyond the first {self.min_count}. Among them:",
            *(f"  {fault}" for fault in some(examples)),
        )


def count(faults: Iterable[SampleFault]) -> dict[str, int]:
    """Return reason -> number of faults."""
    return dict(sorted(Counter(fault.reason for fault in faults).items()))


def some(faults: Iterable[SampleFault]) -> list[SampleFault]:
    """Return at most `NUM_NAMED` faults of each reason."""
    taken: Counter[str] = Counter()
    chosen = []
    for fault in faults:
        taken[fault.reason] += 1
        if taken[fault.reason] <= NUM_NAMED:
            chosen.append(fault)
    return chosen
