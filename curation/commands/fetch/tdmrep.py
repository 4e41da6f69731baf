"""The file of the TDM Reservation Protocol (W3C Community Group report, 6.1): which paths of a site are reserved."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from protego import Protego

from curation.commands.fetch.site_files import Kind

TDMREP_UNREACHABLE = "tdmrep_unreachable"
RESERVATION, LOCATION = "tdm-reservation", "location"
ALL = "/"
WHERE = "tdmrep.json"


class Reservations:
    """What one file reserves. Locations match as paths in a robots.txt do: `*`, `$`, and the longest decides."""

    def __init__(self, text: str) -> None:
        """Parse its text.

        A page that stands where no file is reserves nothing; a file that speaks of reservations and cannot be read
        reserves all, and of two rules for one location that which reserves counts.
        """
        reserved, free = set[str](), set[str]()
        for location, is_reserved in _rules(text):
            (reserved if is_reserved else free).add(location)
        lines = [f"Disallow: {location}" for location in sorted(reserved)]
        lines += [f"Allow: {location}" for location in sorted(free - reserved)]
        self._rules = Protego.parse("\n".join(["User-agent: *", *lines])) if reserved else None

    def forbid(self, url: str) -> str | None:
        """Return what the file says of a URL where it is reserved, or None."""
        is_free = self._rules is None or self._rules.can_fetch(url, "*")
        return None if is_free else f"{RESERVATION}: 1"


TDMREP = Kind("/.well-known/tdmrep.json", WHERE, TDMREP_UNREACHABLE, Reservations)


def _rules(text: str) -> Iterator[tuple[str, bool]]:
    """Yield location and whether it is reserved, of every rule."""
    try:
        rules = list(_objects(json.loads(text)))
    except (ValueError, RecursionError):
        rules = []
    if not rules and RESERVATION in text.lower():
        rules = [{RESERVATION: 1}]
    for rule in rules:
        yield _pattern(rule.get(LOCATION, ALL)), _is_reserved(rule[RESERVATION])


def _objects(found: Any) -> Iterator[dict[str, Any]]:
    """Yield every object that speaks of a reservation, however deep, its keys in small letters."""
    if isinstance(found, list):
        for part in found:
            yield from _objects(part)
    elif isinstance(found, dict):
        rule = {key.lower(): value for key, value in found.items()}
        if RESERVATION in rule:
            yield rule
        else:
            yield from _objects(list(found.values()))


def _is_reserved(value: Any) -> bool:
    """Tell a reservation from none; what is neither 0 nor 1 in any spelling is taken for one."""
    if isinstance(value, str):
        return value.strip().lower() not in ("0", "0.0", "false")
    return not (isinstance(value, int | float) and value == 0)


def _pattern(location: Any) -> str:
    """Return a location as a path of a robots.txt; one that is no text stands for the whole site."""
    if not isinstance(location, str) or not location.strip():
        return ALL
    path = re.sub(r"^https?://[^/]*", "", location.strip(), flags=re.IGNORECASE)
    path = quote(path, safe="!$%&'()*+,/:;=?@[]~")
    return path if path.startswith(("/", "*")) else f"/{path}"
