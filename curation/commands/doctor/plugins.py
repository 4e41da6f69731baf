"""What installed distributions add to the program, by the entry points that name it."""

import os
import pkgutil
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

from filters import ENTRY_POINTS

GROUPS = {ENTRY_POINTS: "filters", "facecaptionhq.hash_matchers": "a matcher of hashes"}
"""Group of entry points -> what one of them offers."""


def plugins() -> Iterator[tuple[str, bool, str, str]]:
    """Yield each plugin: its name, whether it is there, what it offers and which distribution, and how to mend it."""
    for group, offered in GROUPS.items():
        for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
            source = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "a distribution"
            names, mend = _names(point, group), f"pip install --force-reinstall {source.split(maxsplit=1)[0]}"
            told = offered if not names else f"{offered} {', '.join(names)}"
            yield point.name, names is not None, f"{told} ({point.value}) of {source}", mend
    for folder in filter(None, os.environ.get("FACECAPTIONHQ_FILTERS", "").split(os.pathsep)):
        names = [info.name for info in pkgutil.iter_modules([folder])]
        mend = "FACECAPTIONHQ_FILTERS names a folder without a module"
        yield folder, bool(names), f"filters {', '.join(names)} of FACECAPTIONHQ_FILTERS", mend


def _names(point: EntryPoint, group: str) -> list[str] | None:
    """Return the modules that a package of filters holds, nothing for what is no package; None where it is not here."""
    try:
        spec = find_spec(point.module)
    except ImportError:
        return None
    if spec is None:
        return None
    if group != ENTRY_POINTS:
        return []
    places = spec.submodule_search_locations
    return [info.name for info in pkgutil.iter_modules(places)] if places else None
