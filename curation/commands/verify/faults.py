"""What verifying finds: faults, each with its file and what would be right, and notes, which are no faults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.dataset.manifest import ShardReport


@dataclass(frozen=True)
class Fault:
    """One thing that is not as it should be."""

    file: str
    """Which file, relative to the run."""
    wrong: str
    right: str
    shard: str | None = None
    uid: str | None = None

    def __str__(self) -> str:
        of = f" ({self.uid})" if self.uid else ""
        return f"{self.file}{of}: {self.wrong}; right would be: {self.right}"


@dataclass(frozen=True)
class Note:
    """Something worth knowing that is no fault."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass(frozen=True)
class Checked(ShardReport):
    """A shard that was looked at: the counts that its ledger gives, and what is wrong with it."""

    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What became of verifying a run."""

    run: str
    num_shards: int
    num_files: int
    num_bytes: int
    faults: tuple[Fault, ...]
    notes: tuple[Note, ...]
    unfinished: tuple[str, ...] = ()
    """Stages without a manifest, or aside and failed in part: only their shards that are done were verified."""

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be."""
        return not self.faults

    @property
    def values(self) -> Mapping[str, Any]:
        """Return plain values for JSON."""
        return {
            "run": self.run,
            "ok": self.ok,
            "unfinished": list(self.unfinished),
            "num_shards": self.num_shards,
            "num_files": self.num_files,
            "num_bytes": self.num_bytes,
            "faults": [vars(fault) for fault in self.faults],
            "notes": [vars(note) for note in self.notes],
        }
