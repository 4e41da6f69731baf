"""What installed distributions add to the program, by the entry points that name it."""

import os
import pkgutil
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from types import MappingProxyType

from filters.faces import DETECTORS as OWN_DETECTORS
from filters.plugins import DETECTORS, FILTERS, GATES, HASH_MATCHERS, RECOGNISERS, Plugin, folders_of, offered
from filters.weights import catalogue

KINDS: Mapping[str, str] = MappingProxyType(
    {
        FILTERS: "filters",
        DETECTORS: "a face detector",
        RECOGNISERS: "a face recogniser",
        GATES: "a gate of metadata",
        HASH_MATCHERS: "a matcher of hashes",
    }
)
"""Group of entry points -> what one of them offers."""
MANY = (FILTERS, HASH_MATCHERS)
"""Groups of which several of one name are all used."""


def plugins() -> Iterator[tuple[str, bool, str, str]]:
    """Yield each plugin: its name, whether it can be used, what it offers and which distribution, how to mend it."""
    for group, kind in KINDS.items():
        there = offered(group)
        for one in there:
            told = f"{kind}{_modules(one)} ({one.value}) of {one.source}"
            if one.name in _own(group):
                mend = "give it another name"
                yield one.name, False, f"{told}: this program's own of that name is used", mend
            elif [other.name for other in there].count(one.name) > 1 and group not in MANY:
                yield one.name, False, f"{told}: another distribution brings one of that name, too", "uninstall one"
            else:
                yield one.name, _is_there(one), told, f"pip install --force-reinstall {one.distribution}"
    for folder in filter(None, os.environ.get("FACECAPTIONHQ_FILTERS", "").split(os.pathsep)):
        names = [info.name for info in pkgutil.iter_modules([folder])]
        mend = "FACECAPTIONHQ_FILTERS names a folder without a module"
        yield folder, bool(names), f"filters {', '.join(names)} of FACECAPTIONHQ_FILTERS", mend


def _own(group: str) -> Collection[str]:
    """Return the names of this program's own, which nobody else's can take; a recogniser's is that of its weights."""
    if group == RECOGNISERS:
        return [entry.name for entry in catalogue()]
    return OWN_DETECTORS if group == DETECTORS else ()


def _modules(plugin: Plugin) -> str:
    """Return the modules that a package of filters holds, in words; nothing for other kinds."""
    names = [info.name for info in pkgutil.iter_modules(folders_of(plugin))] if plugin.group == FILTERS else []
    return f" {', '.join(names)}" if names else ""


def _is_there(plugin: Plugin) -> bool:
    """Whether its module is here; of a top-level one no code runs."""
    if plugin.group == FILTERS:
        return bool(folders_of(plugin))
    try:
        return find_spec(plugin.value.partition(":")[0]) is not None
    except Exception:  # noqa: BLE001  a package above it is imported, which may raise anything
        return False
