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
"""What a condition may name: `area` is width x height in pixels, `rights` JSON of whose a picture is, the last two how
many rows either table has of it; `docs/data-formats.md` says what the others hold."""
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
    if not NAME.fullmatch(name):
        raise PluginError(f"rank.gates.own.{name}: no name of a gate; one is small letters, digits and _ alone")
    found = plugin(GATES, name)
    if found is None:
        known = ", ".join(names(GATES, ())) or "none is installed"
        raise PluginError(
            f"rank.gates.own.{name}: no installed distribution brings a gate of this name; there are: {known}"
        )
    return found


def _rules(gate: Plugin, table: Mapping[str, Any]) -> Sequence[OwnRule]:
    pairs = gate.asked(lambda made: list(made(dict(table))))
    if not all(isinstance(pair, tuple | list) and list(map(type, pair)) == [str, str] for pair in pairs):
        raise gate.fault(f"gives no pairs of a condition and a reason, both texts: {pairs!r:.200}")
    if wrong := [reason for _, reason in pairs if not NAME.fullmatch(reason)]:
        raise gate.fault(f"gives the reason {wrong[0]!r}; one is small letters, digits and _ alone")
    return [OwnRule(gate, condition, f"own_{gate.name}_{reason}") for condition, reason in pairs]


@contextmanager
def told_of(rules: Sequence[OwnRule]) -> Iterator[None]:
    """Tell of an error of the database as one of these gates', which are all that is not this program's own.

    Raises:
        PluginError: one of them cannot be asked of a row.
    """
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.InternalException, duckdb.InterruptException):
        raise  # of the machine, whatever the condition
    except duckdb.Error as error:
        if not rules:
            raise
        gates = ", ".join(dict.fromkeys(rule.gate.told for rule in rules))
        raise PluginError(f"{gates}: a condition cannot be asked of a row: {' '.join(str(error).split())}") from error


def require_sound(database: "duckdb.DuckDBPyConnection", rules: Sequence[OwnRule], table: str) -> None:
    """Hold conditions against the columns of a table, which may be empty; none may look at other rows.

    Raises:
        PluginError: one is no condition over these.
    """
    import duckdb

    columns = ", ".join(COLUMNS)
    for rule in rules:
        try:
            query = f"SELECT 1 FROM (SELECT {columns} FROM {table}) WHERE ({rule.condition})::BOOLEAN"
            asked = duckdb.extract_statements(query)
            if len(asked) != 1:
                raise duckdb.ParserException("it is more than one statement")
            database.execute(asked[0])
        except duckdb.Error as error:
            why = " ".join(str(error).split())
            raise rule.gate.fault(
                f"asks {rule.condition!r}, which is no condition over a joined image: {why}"
            ) from error
