"""The published rows, and how far the authors' own second scoring lies from them."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

UNNAMED_VERSIONS = (
    "The published table names neither PuLID's nor PhotoMaker's version, nor the protocol that its numbers are of."
)


@dataclass(frozen=True)
class PublishedSet:
    """One published table."""

    name: str
    num: int
    """Reference photos, as the published scripts have it."""
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float, ...]]
    rerun: Mapping[str, tuple[float, ...]]
    """The same method, scored again by its authors."""

    @property
    def tolerance(self) -> dict[str, float]:
        """Column -> difference between the authors' two scores; nothing nearer than this can be asked of others."""
        (name,) = self.rerun
        pairs = zip(self.columns, self.rows[name], self.rerun[name], strict=True)
        return {column: round(abs(one - other), 2) for column, one, other in pairs}


@cache
def published_sets() -> tuple[PublishedSet, ...]:
    """Return every published table."""
    values = tomllib.loads(Path(__file__).with_name("published.toml").read_text(encoding="utf-8"))
    columns = tuple(values["columns"])
    return tuple(
        PublishedSet(
            entry["name"],
            entry["num"],
            columns,
            {name: tuple(row) for name, row in entry["rows"].items()},
            {name: tuple(row) for name, row in entry["rerun"].items()},
        )
        for entry in values["sets"]
    )


def published(name: str) -> PublishedSet | None:
    """Return the published table of a set; None where nothing was published."""
    return next((entry for entry in published_sets() if entry.name == name), None)
