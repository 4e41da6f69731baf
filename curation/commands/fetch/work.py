"""The identity of what `fetch` makes, of a folder and of a shard."""

from collections.abc import Mapping
from typing import Any

from curation.dataset.stages import FETCH
from curation.images.decode import IN_DIGESTS
from curation.recipe.settings import DecodeLimits, FetchSettings
from curation.storage.publish import digest

ROBOTS_WAIVER = "robots_waiver"
"""Stands among the manifest's facts on safety only where robots.txt was waived."""

OUTSIDE_DIGEST = {"engine", "num_threads", "num_host_connections", "max_unreachable_fraction"}


def fetch_work(
    selection_digest: str, settings: FetchSettings, limits: DecodeLimits, hash_lists: Mapping[str, str],
    heeds_robots: bool = True,
) -> str:  # fmt: skip
    """Return the digest of all that a fetched folder depends on."""
    gates = _gates(settings, limits, hash_lists, heeds_robots)
    return digest([FETCH.name, selection_digest, *gates, FETCH.output_since])


def fetch_work_id(
    shard: str, part_sha256: str, settings: FetchSettings, limits: DecodeLimits, hash_lists: Mapping[str, str],
    heeds_robots: bool = True,
) -> str:  # fmt: skip
    """Return the identity of one shard's work: its part of the selection, settings, gates, this stage."""
    gates = _gates(settings, limits, hash_lists, heeds_robots)
    return digest([FETCH.name, shard, part_sha256, *gates, FETCH.output_since])


def _gates(
    settings: FetchSettings, limits: DecodeLimits, hash_lists: Mapping[str, str], heeds_robots: bool
) -> list[Any]:
    return [inside(settings, limits), dict(hash_lists), *([] if heeds_robots else [ROBOTS_WAIVER])]


def inside(settings: FetchSettings, limits: DecodeLimits) -> dict[str, Any]:
    """Return the settings that decide what is fetched, and nothing of how."""
    return {
        **IN_DIGESTS,
        "fetch": settings.model_dump(mode="json", exclude=OUTSIDE_DIGEST),
        "decode": limits.model_dump(mode="json"),
    }
