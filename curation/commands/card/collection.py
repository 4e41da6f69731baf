"""How the pictures of a pack were collected, as the manifest of `fetch` says."""

from collections.abc import Mapping
from typing import Any

from curation.commands.card.origin import Origin
from curation.commands.fetch.work import ROBOTS_WAIVER
from curation.dataset.manifest import read_manifest
from curation.dataset.stages import FETCH

UNKNOWN = "How the pictures were collected is not in the ledgers: `curate` took them as they lay."
LINKS = "Links come from published data sets of image-text pairs, and a crawler downloaded them from public addresses."
HEEDED = "It heeds robots.txt, the TDM Reservation Protocol, and opt-outs in headers and in the files themselves."
NOT_ASKED = (
    "It heeds the TDM Reservation Protocol, and opt-outs in headers and in the files themselves; robots.txt was not "
    "asked, for this reason: {reason}"
)
RELEASED = "The links were held against the cleaned release {release}."
NOT_RELEASED = "The links were held against no cleaned release, for this reason: {reason}"


FOUND = "found on the web"
TAKEN = "found in files that the publisher had"
UNFETCHED = "files that were not downloaded by this program; where they come from is not in the ledgers"
FROM_NOWHERE = "of an origin that is not known here"


def whence(origin: Origin) -> str:
    """Return where the pictures come from, in a few words."""
    if is_fetched(origin):
        return FOUND
    return FROM_NOWHERE if origin.run is None else TAKEN


def kind_of_source(origin: Origin) -> str:
    """Return the same in the words of the Commission's template."""
    return "scraped from the web, by links of published data sets" if is_fetched(origin) else UNFETCHED


def is_fetched(origin: Origin) -> bool:
    """Whether the run itself downloaded them."""
    return any(place.stage == FETCH.name for place in origin.stages)


def collected(origin: Origin) -> tuple[str, ...]:
    """Return sentences on where the pictures come from, and what was heeded on the way; some hold stated reasons."""
    fetched = next((place for place in origin.stages if place.stage == FETCH.name), None)
    if fetched is None:
        return (UNKNOWN,)
    safety = read_manifest(fetched.folder).extra.get("safety", {})
    robots = NOT_ASKED.format(reason=safety[ROBOTS_WAIVER]) if ROBOTS_WAIVER in safety else HEEDED
    return LINKS, robots, _released(safety)


def _released(safety: Mapping[str, Any]) -> str:
    release = safety.get("release")
    if release is None:
        return NOT_RELEASED.format(reason=safety.get("waiver") or "none was given")
    return RELEASED.format(release=release if isinstance(release, str) else release.get("name", "that it names"))
