"""What is published of each method: where, under which terms, and how many tensors and parameters its parts have."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from facemakeup.evaluation.generators.checkpoints import Layout, count


@dataclass(frozen=True)
class Published:
    """One file that a method's makers offer."""

    method: str
    version: str
    repository: str
    file: str
    licence: str
    parts: Mapping[str, tuple[int, int]]
    """Name of a part -> its tensors and parameters."""
    revision: str | None = None
    """A commit that holds the file; None where we know of none."""
    sha256: str | None = None
    recorded_by: str | None = None
    """Who recorded the sha256; we saw no byte."""

    @property
    def url(self) -> str:
        """Where it is fetched."""
        return f"https://huggingface.co/{self.repository}/resolve/{self.revision or 'main'}/{self.file}"

    @property
    def offer(self) -> str:
        """Say where the file is had, what it should be, and on which terms."""
        known = f"sha256 {self.sha256} by {self.recorded_by}" if self.sha256 else "sha256 not known here"
        return f"{self.file} of {self.repository} is offered at {self.url} ({known}; licence: {self.licence})"

    def tell(self, sha256: str, layouts: Mapping[str, Layout]) -> str:
        """Return in words whether these are the published weights."""
        if sha256 == self.sha256:
            return "published"
        own = {name: count(layouts.get(name, {})) for name in self.parts}
        if own == self.parts:
            return "of the published sizes; sha256 " + ("is another" if self.sha256 else "of the published is unknown")
        num, published = (sum(size for _, size in sizes.values()) for sizes in (own, self.parts))
        return f"NOT the published weights: {num:,} parameters, not {published:,}"


@cache
def catalogue() -> tuple[Published, ...]:
    """Return every published file."""
    values = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return tuple(
        Published(**{**entry, "parts": {name: tuple(sizes) for name, sizes in entry["parts"].items()}})
        for entry in values["checkpoints"]
    )


def published(method: str, version: str) -> Published:
    """Return one entry."""
    (found,) = [entry for entry in catalogue() if (entry.method, entry.version) == (method, version)]
    return found
