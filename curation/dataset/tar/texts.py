"""The JSON and the captions of samples, judged by limits of our own, so that every Python says the same of them."""

import json
import re
from typing import Any

from curation.dataset.tar.limits import MAX_INTEGER_DIGITS, MAX_JSON_DEPTH

STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
"""A string of JSON; one without an end goes to the end of the text, so that none is looked through twice."""
BRACKET = re.compile(r"[\[\]{}]")


def parse_json(text: str) -> Any:
    """Return the value that a JSON text is.

    Raises:
        ValueError: it is none, or passes a limit.
    """
    if depth_of(text) > MAX_JSON_DEPTH:
        raise ValueError(f"more than {MAX_JSON_DEPTH} levels of JSON")
    return json.loads(text, parse_int=_integer)


def parse_object(content: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `content` is in UTF-8, None where it is none, or passes a limit."""
    try:
        value = parse_json(content.decode("utf-8"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def parse_text(content: bytes) -> str | None:
    """Return text in UTF-8, None where the bytes are none."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def depth_of(content: str) -> int:
    """Return how deep the brackets of a JSON text lie within one another, strings left out."""
    if content.count("[") + content.count("{") <= MAX_JSON_DEPTH:
        return 0  # too few to pass the limit however they stand
    depth = deepest = 0
    for bracket in BRACKET.finditer(STRING.sub("", content)):
        depth += 1 if bracket.group() in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)
