"""What `fetch` says when next to nothing arrived: why, as far as one reason tells it, and what to look at."""

from collections.abc import Mapping
from types import MappingProxyType

from curation.commands.fetch.politeness import HOST_BACKOFF, HOST_UNREACHABLE, PART_DEADLINE
from curation.dataset.manifest import Manifest
from curation.dataset.stages import FETCH, FORGET

NUM_ROWS_TO_TELL = 100
"""Fewer rows say nothing about a common cause, unless none of them arrived."""
ONE_REASON_FRACTION = 0.9
NET = "this machine may have no way to the net, or needs a proxy, which is never used"
HINTS: Mapping[str, str] = MappingProxyType(
    {
        "blocked_address": "their hosts resolve to addresses that are not public: a resolver or VPN of one's own, or "
        "links to private machines; --allow-loopback opens this machine's own addresses, for tests",
        "dns": f"no host has an address: {NET}",
        "connection": f"no host takes a connection: {NET}",
        "timeout": f"no host answers in fetch.timeout_s: {NET}",
        HOST_UNREACHABLE: f"no host answers in fetch.timeout_s: {NET}",
        "tls": "no certificate is trusted: look at this machine's clock and certificates",
        "http_403": "the hosts refuse this client",
        HOST_BACKOFF: "the hosts want to be asked more slowly: fetch.num_host_connections, fetch.max_retry_after_s",
        "http_429": "the hosts want to be asked more slowly: fetch.num_host_connections, fetch.max_retry_after_s",
        PART_DEADLINE: "fetch.part_deadline_s is too short for the parts: rank.rows_per_part makes them smaller",
        "opted_out": "the hosts or the pictures themselves forbid this use; it is not ours to overrule that",
        "robots_unreachable": "the hosts' robots.txt cannot be read, which forbids all; try again later",
        "tdmrep_unreachable": "the hosts' tdmrep.json cannot be read, which forbids all; try again later",
    }
)


def alarm(manifest: Manifest) -> str | None:
    """Return what to tell a person, and to end with another code than 0 for: next to nothing arrived; else None.

    That is: nothing at all, or at least nine tenths of a hundred rows or more were lost for one reason.
    """
    num_asked = manifest.num_seen - sum(manifest.rejected.get(FORGET, {}).values())
    own = {by: counts for by, counts in manifest.rejected.items() if by != FORGET}
    reasons = [(number, by, reason) for by, counts in own.items() for reason, number in counts.items()]
    if not reasons:
        return None
    number, by, reason = max(reasons)
    is_one_reason = num_asked >= NUM_ROWS_TO_TELL and number >= ONE_REASON_FRACTION * num_asked
    if manifest.num_kept > 0 and not is_one_reason:
        return None
    about = f" ({HINTS[reason]})" if reason in HINTS and by == FETCH.name else ""
    return f"{manifest.num_kept} of {num_asked} pictures arrived; {number} were rejected by {by}: {reason}{about}"
