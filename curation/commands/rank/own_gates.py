"""Gates that other distributions bring: conditions over joined images in SQL, asked after all of this program's own.

An entry point `facecaptionhq.gates` names what, called with the gate's table of the recipe (`[rank.gates.own.NAME]`),
returns pairs (condition, reason). A condition is SQL of DuckDB over the columns of one joined image (`COLUMNS`). Where
it is true, the image is left out as `own_NAME_REASON`, in the ledger as everywhere; where it is null, it stays.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filters.plugins import GATES, Plugin, PluginError, names, plugin

if TYPE_CHECKING:
    import duckdb

COLUMNS = (
    "url", "caption", "facecaptions", "width", "height", "area", "nsfw", "punsafe", "pwatermark", "similarity",
    "license", "rights", "sample_id", "sha256", "md5", "num_faces", "face_side", "face_area", "num_facecaption_rows",
    "num_laion_rows",
)  # fmt: skip
"""What a condition may name; `docs/data-formats.md` says what each holds."""
NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
"""Of a gate, and of its reasons."""


@dataclass(frozen=True)
class OwnRule:
    """One condition of a gate, and whose it is."""

    gate: Plugin
    condition: str
    reason: str


def own_rules(settings: Mapping[str, Mapping[str, Any]]) -> tuple[OwnRule, ...]:
    """Return what the gates of a recipe ask, in its order; `settings` has each one's table by its name.

    Raises:
        PluginError: nobody brings a gate, two do, or it cannot be loaded, or gives what are no conditions.
    """
    return tuple(rule for name, table in settings.items() for rule in _rules(_brought(name), table))


def _brought(name: str) -> Plugin:
    found = plugin(GATES, name) if NAME.fullmatch(name) else None
    if found is None:
        known = ", ".join(names(GATES, ())) or "none is installed"
        raise PluginError(
            f"rank.gates.own.{name}: no installed distribution brings a gate of this name; there are: {known}"
        )
    return found


def _rules(gate: Plugin, table: Mapping[str, Any]) -> Sequence[OwnRule]:
    pairs = gate.build(dict(table))
    try:
        rules = [OwnRule(gate, str(condition), f"own_{gate.name}_{reason}") for condition, reason in pairs]
    except (TypeError, ValueError) as error:
        raise gate.fault(f"gives no pairs of a condition and a reason: {error}") from error
    for rule in rules:
        if not NAME.fullmatch(rule.reason.removeprefix(f"own_{gate.name}_")):
            raise gate.fault(
                f"gives the reason {rule.reason!r}; one is small letters, digits and _, and begins with a letter"
            )
    return rules


@contextmanager
def told_of(rules: Sequence[OwnRule]) -> Iterator[None]:
    """Tell of an error of the database as one of these gates', which are all that is not this program's own.

    Raises:
        PluginError: one of them cannot be asked of a row.
    """
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        if not rules:
            raise
        gates = ", ".join(dict.fromkeys(rule.gate.told for rule in rules))
        raise PluginError(f"{gates}: a condition cannot be asked of a row: {' '.join(str(error).split())}") from error


def require_sound(database: "duckdb.DuckDBPyConnection", rules: Sequence[OwnRule], table: str) -> None:
    """Hold conditions against the columns of a table, which may be empty.

    Raises:
        PluginError: one is no condition over these.
    """
    import duckdb

    columns = ", ".join(COLUMNS)
    for rule in rules:
        try:
            asked = duckdb.extract_statements(
                f"SELECT ({rule.condition})::BOOLEAN FROM (SELECT {columns} FROM {table})"
            )
            if len(asked) != 1:
                raise duckdb.ParserException("it is more than one statement")
            database.execute(asked[0])
        except duckdb.Error as error:
            why = " ".join(str(error).split())
            raise rule.gate.fault(
                f"asks {rule.condition!r}, which is no condition over a joined image: {why}"
            ) from error
