"""Where one text or value is not what another is, each named by its place."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from curation.commands.verify.faults import Fault

MAX_CHARACTERS = 160


def json_differences(file: str, told: Any, right: Any, place: str = "") -> Iterator[Fault]:
    """Yield each value of JSON that differs, by its keys; first those that stand by themselves."""
    if isinstance(told, Mapping) and isinstance(right, Mapping):
        keys = dict.fromkeys((*right, *told))
        for key in sorted(keys, key=lambda key: isinstance(right.get(key), Mapping)):
            if key != "seal":
                yield from json_differences(file, told.get(key), right.get(key), f"{place}.{key}" if place else key)
    elif told != right or type(told) is not type(right):
        yield Fault(file, f"{place or 'all'} is {_cut(repr(told))}", _cut(repr(right)))


def line_differences(file: str, told: str, right: str) -> Iterator[Fault]:
    """Yield each run of lines that differs, by the number of its first line."""
    old, new = told.splitlines(), right.splitlines()
    for kind, start, end, from_, to in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            wrong = _cut(" / ".join(old[start:end])) or "nothing"
            yield Fault(f"{file} line {start + 1}", wrong, _cut(" / ".join(new[from_:to])) or "nothing")


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."
