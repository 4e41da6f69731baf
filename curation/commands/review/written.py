"""What a review writes beside its labels: lists of pictures, and recipes with other limits."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from curation.commands.review.whatif import Limits, changed, limits_of
from curation.errors import UsageError
from curation.recipe.overrides import as_toml
from curation.recipe.recipe import Recipe, load_recipe
from curation.storage.publish import publish

UID = re.compile(r"[0-9a-f]{32}")
LISTED = re.compile(rb"(?:[0-9a-f]{32}\n)*")
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def write_selection(
    folder: Path, name: str, uids: Sequence[str], tell: Callable[[Path], None] = lambda path: None
) -> Path:
    """Write uids, one a line, as `NAME.txt`, and return its path; a list of that name is replaced.

    `tell` hears of the path before anything lies there.

    Raises:
        UsageError: the name does not hold, a uid is none, or a file of that name is no such list.
    """
    path = folder / f"{_checked(name)}.txt"
    if wrong := [uid for uid in uids if not UID.fullmatch(uid)]:
        raise UsageError(f"{wrong[0]!r:.80}: no uid, which is 32 hex digits")
    if path.exists() and not LISTED.fullmatch(path.read_bytes()):
        raise UsageError(f"{path.name}: lies there already, and is no list of uids; choose another name")
    tell(path)
    publish(path, lambda temp: temp.write_text("".join(f"{uid}\n" for uid in uids), encoding="utf-8"))
    return path


def write_recipe(folder: Path, name: str, before: Recipe, limits: Limits) -> Path:
    """Write a recipe with other limits as `NAME.toml`, every default filled in, and return its path.

    Raises:
        UsageError: the name does not hold, or a recipe of that name lies there.
        RecipeError: a limit does not hold.
    """
    path = folder / f"{_checked(name)}.toml"
    if path.exists():
        raise UsageError(f"{path.name}: lies there already; choose another name")
    after = changed(before.resolved, limits, path.name, name)
    text = "".join(f"# {line}\n" for line in _remarks(before, after)) + tomlkit.dumps(as_toml(after.resolved))
    publish(path, lambda temp: temp.write_text(text, encoding="utf-8"))
    if load_recipe(path).digest != after.digest:
        raise UsageError(f"{path}: reads as another recipe than was asked for")
    return path


def _remarks(before: Recipe, after: Recipe) -> list[str]:
    """Return what the head of the file says."""
    old, new = limits_of(before), limits_of(after)
    differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    told = [f"  {name}: {_told(old.get(name))} -> {_told(new.get(name))}" for name in differing]
    return [f"Written by `facecaptionhq review` from {before.name}, with other limits:", *(told or ["  none"])]


def _told(keep: Mapping[str, Any] | None) -> str:
    ends = {end: limit for end, limit in (keep or {}).items() if limit is not None}
    return " ".join(f"{end} {limit!r}" for end, limit in ends.items()) or "no limit"


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise UsageError(f"name {name!r:.80}: up to 64 of a-z, 0-9 and -, the first a letter or a digit")
    return name
