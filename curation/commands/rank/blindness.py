"""Which gates of a recipe have nothing to judge by: none of them passes everything in silence.

A gate is blind where not one row has a value for it: no column, or one of nulls. Then `rank` stops, unless a waiver
says why it may go on; the waiver, and how many rows each gate could judge, stand in the manifest. Of the two halves of
the gate of safety, words and probabilities, one may be blind as long as the other judges: that is said, and no more.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.commands.rank.cleaning import pattern
from curation.commands.rank.gates import SAFETY_GATES, active_face_gates, active_gates
from curation.errors import SafetyError

if TYPE_CHECKING:
    import duckdb

    from curation.recipe.settings import GateSettings

log = logging.getLogger(__name__)

FACES_SQL = "found_faces"
BOXES_SQL = "box"


@dataclass(frozen=True)
class Sight:
    """What the gates on columns can see."""

    num_judged: Mapping[str, int] = field(default_factory=dict)
    """Active gate -> rows that have a value for it."""
    num_unjudged: Mapping[str, int] = field(default_factory=dict)
    """Active gate -> rows that have none."""
    waiver: str | None = None
    """Why blind gates may be passed; None where none is blind."""

    @property
    def blind(self) -> list[str]:
        """Gates for which no row has a value, though there are rows; a half of the gate of safety only with both."""
        return [gate for gate in self._unseeing if gate not in self.half_blind]

    @property
    def half_blind(self) -> list[str]:
        """The half of the gate of safety for which no row has a value, where the other half judges."""
        halves = [gate for gate in self.num_judged if gate in SAFETY_GATES]
        unseeing = [gate for gate in halves if gate in self._unseeing]
        return unseeing if len(unseeing) < len(halves) else []

    @property
    def _unseeing(self) -> list[str]:
        return [gate for gate, number in self.num_judged.items() if not number and self.num_unjudged[gate]]

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest says of it."""
        gates = {
            gate: {"num_judged": number, "num_unjudged": self.num_unjudged[gate]}
            for gate, number in self.num_judged.items()
        }
        half_blind = {"half_blind_gates": self.half_blind} if self.half_blind else {}
        return {"gates": gates, "blind_gates": self.blind, **half_blind, "waiver": self.waiver}


def look(database: "duckdb.DuckDBPyConnection", folder: Path, gates: "GateSettings", waiver: str | None) -> Sight:
    """Return what the gates see of the cleaned rows in `folder`/laion and `folder`/facecaption.

    Raises:
        SafetyError: a gate is blind, and there is no waiver.
    """
    columns = {gate: ("laion", sql) for gate, sql in active_gates(gates).items()}
    if faces := active_face_gates(gates):
        num_found = _counts(database, folder / "laion", FACES_SQL)[1]
        columns |= dict.fromkeys(faces, ("laion", FACES_SQL) if num_found else ("facecaption", BOXES_SQL))
    judged, unjudged = {}, {}
    for gate, (source, sql) in columns.items():
        num_rows, judged[gate] = _counts(database, folder / source, sql)
        unjudged[gate] = num_rows - judged[gate]
    sight = Sight(judged, unjudged)
    for gate in sight.half_blind:
        log.warning("no row has a value for %s: the other half of the gate of safety judges alone", gate)
    if not sight.blind:
        return sight
    if not (waiver or "").strip():
        raise SafetyError(
            f"no row has a value for {', '.join(sight.blind)}: these gates of [rank.gates] would let everything pass; "
            f"give metadata that has such a column (docs/data-formats.md names them), or say why not: --waiver 'REASON'"
        )
    log.warning(
        "no row has a value for %s: these gates let everything pass; waiver: %s", ", ".join(sight.blind), waiver
    )
    return Sight(judged, unjudged, waiver)


def _counts(database: "duckdb.DuckDBPyConnection", folder: Path, sql: str) -> tuple[int, int]:
    """Return the number of rows, and of those that have a value."""
    if not any(folder.glob("*/*.parquet")):
        return 0, 0
    rows = database.read_parquet(pattern(folder, "*/*.parquet"), hive_partitioning=False)
    ((num_rows, num_valued),) = rows.aggregate(f"count(*), count({sql})").fetchall()
    return int(num_rows), int(num_valued)
