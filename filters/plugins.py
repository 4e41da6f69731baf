"""What other distributions bring, found by the entry points that name it, and asked for by its name alone.

Nothing of a distribution is imported before it is asked for, so one that is broken stops nobody else.
"""

import importlib.metadata
import os
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, TypeVar

from filters.base import FaceCaptionError

FILTERS, DETECTORS, RECOGNISERS, GATES, HASH_MATCHERS = (
    f"facecaptionhq.{kind}" for kind in ("filters", "detectors", "recognisers", "gates", "hash_matchers")
)
"""Groups of entry points."""


T = TypeVar("T")


class PluginError(FaceCaptionError):
    """What a distribution brings cannot be loaded, or is none of its kind; names the entry point and how to mend it."""

    exit_code = 2


@dataclass(frozen=True)
class Plugin:
    """One entry point of an installed distribution."""

    group: str
    name: str
    """By which recipes and configurations ask for it."""
    value: str
    """Module, and what of it: `package.module:what`."""
    distribution: str
    version: str
    _point: EntryPoint = field(repr=False, compare=False)

    @property
    def source(self) -> str:
        """Name and version of the distribution, which stand in every key of what the plugin made."""
        return f"{self.distribution} {self.version}"

    @property
    def told(self) -> str:
        """What errors call it."""
        return f"entry point {self.name} of {self.group} ({self.value}) of {self.source}"

    def load(self) -> Any:
        """Return what the entry point names.

        Raises:
            PluginError: it cannot be imported, whatever its module raises.
        """
        if not (self.distribution and self.version):
            raise self.fault("cannot be loaded: the metadata of its distribution name it or its version not")
        try:
            return self._point.load()
        except Exception as error:  # whatever a stranger's module raises
            raise self.fault(f"cannot be loaded: {type(error).__name__}: {error}") from error

    def build(self, *arguments: Any, **options: Any) -> Any:
        """Call what the entry point names, and return what it builds; see `asked`."""
        return self.asked(lambda made: made(*arguments, **options))

    def asked(self, question: Callable[[Any], T]) -> T:
        """Return what comes of a question to what the entry point names.

        Raises:
            PluginError: it cannot be imported, or raises what is no error of this program.
        """
        made = self.load()
        try:
            return question(made)
        except FaceCaptionError:
            raise
        except Exception as error:
            raise PluginError(f"{self.told} cannot be built: {type(error).__name__}: {error}") from error

    def fault(self, what: str) -> PluginError:
        """Return an error about it."""
        return PluginError(
            f"{self.told} {what}; type `pip install --force-reinstall {self.distribution}`, or leave it out"
        )


def offered(group: str) -> tuple[Plugin, ...]:
    """Return what all installed distributions offer in a group, in order of name.

    Packages are asked again only where a folder in which Python looks for them has changed: each has a file to open.
    """
    return _offered(group, _places())


def _places() -> tuple[tuple[str, int], ...]:
    """Return where Python looks for packages, and when one was last installed or removed there."""
    places = []
    for name in map(os.path.abspath, sys.path):
        with suppress(OSError):
            places.append((name, Path(name).stat().st_mtime_ns))
    return tuple(places)


@lru_cache(maxsize=16)
def _offered(group: str, _: tuple[tuple[str, int], ...]) -> tuple[Plugin, ...]:
    points = importlib.metadata.entry_points(group=group)
    plugins = [
        Plugin(
            group, point.name, point.value,
            *((point.dist.name or "", point.dist.version or "") if point.dist is not None else ("", "")), point,
        )
        for point in points
    ]  # fmt: skip
    return tuple(sorted(plugins, key=lambda plugin: (plugin.name, plugin.value, plugin.source)))


def names(group: str, built_in: Collection[str]) -> tuple[str, ...]:
    """Return all names of a kind: those of this program, then those that distributions bring beside."""
    return (*built_in, *dict.fromkeys(plugin.name for plugin in offered(group) if plugin.name not in built_in))


def plugin(group: str, name: str, built_in: Collection[str] = ()) -> Plugin | None:
    """Return what is offered under a name; None where nobody offers it, or the name is one of this program's own.

    Raises:
        PluginError: two distributions offer it.
    """
    if name in built_in:
        return None
    found = [one for one in offered(group) if one.name == name]
    if len(found) > 1:
        both = " and ".join(f"{one.source} ({one.value})" for one in found)
        raise PluginError(f"entry point {name} of {group}: {both} both bring it; type `pip uninstall` for one of them")
    return found[0] if found else None


@cache
def bringer_of(module_file: str | None) -> Plugin | None:
    """Return who brought the package of filters in which a module's file lies; None for this program's own filters."""
    folder = None if module_file is None else Path(module_file).parent
    if folder in (None, Path(__file__).parent):
        return None
    return next((one for one in offered(FILTERS) if folder in map(Path, folders_of(one))), None)


def folders_of(plugin: Plugin) -> tuple[str, ...]:
    """Return where the package of filters lies that an entry point names; of a top-level package no code runs."""
    from importlib.util import find_spec

    try:
        spec = find_spec(plugin.value)
    except Exception:  # noqa: BLE001  a package above it is imported, which may raise anything
        return ()
    return tuple(spec.submodule_search_locations or ()) if spec is not None else ()
