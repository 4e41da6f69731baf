"""The one table of stages: where each stands in the flow, and what its folder holds.

A new stage is a row here, a room in `curation.commands`, and a command. What reads finished folders (`verify`, `why`,
`forget`, `report`, `gc`) asks this table; what only one stage knows stands in its own room.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

LEDGER_NAME = "ledger.parquet"
"""Holds every row of a stage whose rows do not stand in one ledger per shard alone."""
INDEX_NAME = "index.parquet"
FINDINGS_NAME = "findings.parquet"
BLOCKED_NAME = "blocked.parquet"
"""What no redirect may lead to: the blocklists of `rank`, as hashes, for `fetch`."""
LEFT_OUT_NAME = "left_out.parquet"
"""Whom a pack leaves out, why and for whom, by place; only where the recipe asks for that."""
CARD_NAME = "README.md"
"""The card that says to readers outside what of a folder is data."""
CARD_VALUES_NAME, CROISSANT_NAME, SAMPLES_PATH = "card.json", "croissant.json", "data/train.parquet"
"""What lies beside it, written by `card`: every value with its query, Croissant's description, the table."""

NUMBERED = r"\d{5,}"
REWRITTEN = r"\.[0-9a-f]{8,}"
"""What `decide` adds to a shard's name where it writes a file anew."""


@dataclass(frozen=True)
class Stage:
    """One stage of the flow from metadata to packed shards."""

    name: str
    """Its command, its folder in a run, and what its records call it."""
    before: str | None
    """The stage whose output it reads; None where it reads what comes from outside."""
    output_since: str
    """The release since which equal inputs give equal output; part of every work id (`docs/decisions/0032`)."""
    writes_tars: bool = True
    """Whether its shards are tars with a ledger each."""
    member_key: str = "uid"
    """Column of its ledger by which the members of its tars are named."""
    is_by_format: bool = False
    """Whether its shards were once series of one image format each (`jpg-00000`): such names are its own, too."""
    follows_shards: bool = False
    """Whether each shard is made of the one of the same name before it: each sample kept there has a row here."""
    has_whole_ledger: bool = False
    """Whether `LEDGER_NAME` holds all its rows."""
    tables: tuple[str, ...] = ()
    """Files of its own that belong to no single shard."""
    rejects_before_shards: bool = False
    """Whether it turns samples away before it cuts shards, so that its counts are more than its shards' sum."""
    is_aside: bool = False
    """Whether it only adds to what the stage before it made: whom it turns away goes on without that."""
    can_be_redecided: bool = False
    """Whether `decide` judges its folder anew by another recipe."""

    def may_write(self, file: str, formats: Collection[str]) -> bool:
        """Whether a file has a name that this stage gives; `formats` are the image formats that there are."""
        series = rf"(?:(?:{'|'.join(map(re.escape, formats))})-)?" if self.is_by_format else ""
        shard = f"{series}{NUMBERED}"
        form = rf"{shard}(?:{REWRITTEN})?\.(?:tar|parquet)" if self.writes_tars else rf"{shard}\.parquet"
        return file in self.own_tables or re.fullmatch(form, file) is not None

    @property
    def is_selection(self) -> bool:
        """Whether it writes no tars, but one ledger and parts of a table."""
        return self.has_whole_ledger and not self.writes_tars

    @property
    def own_tables(self) -> tuple[str, ...]:
        """Every table of its own: `tables`, and the whole ledger where there is one."""
        return (*self.tables, *((LEDGER_NAME,) if self.has_whole_ledger else ()))


RANK = Stage(
    name="rank", before=None, output_since="0.3.0", writes_tars=False, has_whole_ledger=True, tables=(BLOCKED_NAME,)
)
FETCH = Stage(
    name="fetch", before="rank", output_since="0.3.0", member_key="key", tables=(FINDINGS_NAME,), follows_shards=True
)
CURATE = Stage(name="curate", before="fetch", output_since="0.1.0", can_be_redecided=True, follows_shards=True)
CAPTION = Stage(
    name="caption", before="curate", output_since="0.3.0", writes_tars=False, follows_shards=True, is_aside=True
)
PACK = Stage(
    name="pack", before="curate", output_since="0.3.0", is_by_format=True,
    has_whole_ledger=True, tables=(INDEX_NAME, LEFT_OUT_NAME, CARD_NAME), rejects_before_shards=True,
)  # fmt: skip

_TABLE = {stage.name: stage for stage in (RANK, FETCH, CURATE, CAPTION, PACK)}
STAGES: Mapping[str, Stage] = MappingProxyType(_TABLE)
"""Every stage by its name, in the order in which samples flow."""

FORGET = "forget"
"""Who rejects what was forgotten, in every stage: no stage, but a command."""
FORGOTTEN = "forgotten"
"""The reason."""
