"""What `rank` must find, worked out a second time: plain dictionaries, one row at a time, no word of SQL."""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

Row = Mapping[str, Any]


@dataclass
class Expected:
    """The selection in order (uid, rank key), the reasons of all others, and the faults."""

    selection: list[tuple[str, Any]]
    reasons: Counter[str] = field(default_factory=Counter)
    faults: dict[str, Counter[str]] = field(default_factory=dict)


def expect(faces: Iterable[Row], images: Iterable[Row], top: int | None, key: str = "image_area") -> Expected:
    """Rank rows of FaceCaption and LAION."""
    faults: dict[str, Counter[str]] = {"facecaption": Counter(), "laion": Counter()}
    reasons: Counter[str] = Counter()
    boxes: defaultdict[str, list[list[int]]] = defaultdict(list)
    for row in faces:
        count, url = faults["facecaption"], row["url"]
        head = None if url is None else url.split(", ")[0]
        count["url_extra_text"] += head != url
        box = _box(row["box"])
        count["box_broken"] += box is None
        count["caption_missing"] += not [text for text in row["caption"] or [] if text and text.strip()]
        if (address := _address(head)) is None:
            count["url_unusable"] += 1
            reasons["url_unusable"] += 1
            continue
        count["duplicate_row"] += address in boxes
        boxes[address] += [] if box is None else [box]
    sizes: dict[str, tuple[int, int] | None] = {}
    for row in images:
        count = faults["laion"]
        size = _size(row["WIDTH"], row["HEIGHT"])
        count["no_size"] += size is None
        count["caption_missing"] += not (row["TEXT"] or "").strip()
        if (address := _address(row["URL"])) is None:
            count["url_unusable"] += 1
            reasons["url_unusable"] += 1
            continue
        count["duplicate_row"] += address in sizes
        before = sizes.get(address)
        if before is None or (size is not None and size[0] * size[1] > before[0] * before[1]):
            sizes[address] = size
    ranked = []
    for address in boxes.keys() | sizes.keys():
        if address not in sizes:
            reasons["not_in_laion"] += 1
        elif address not in boxes:
            reasons["not_in_facecaption"] += 1
        elif sizes[address] is None:
            reasons["no_size"] += 1
        elif (value := _key(key, sizes[address], boxes[address])) is None:
            reasons["no_face_box"] += 1
        else:
            ranked.append((sha256(address.encode()).hexdigest()[:32], value))
    ranked.sort(key=lambda pair: (-pair[1], pair[0]))
    num_kept = len(ranked) if top is None else min(top, len(ranked))
    reasons["below_cut"] += len(ranked) - num_kept
    return Expected(ranked[:num_kept], +reasons, {source: +count for source, count in faults.items()})


def _key(key: str, size: tuple[int, int] | None, boxes: list[list[int]]) -> float | int | None:
    side = max((min(box[2] - box[0], box[3] - box[1]) for box in boxes), default=None)
    if key == "face_side":
        return side
    if key == "face_area":
        return max(((box[2] - box[0]) * (box[3] - box[1]) for box in boxes), default=None)
    if size is None:
        return None
    area = size[0] * size[1]
    if key == "image_area":
        return area
    return None if side is None else math.sqrt(side * math.sqrt(area))


def _address(raw: str | None) -> str | None:
    text = (raw or "").strip()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    user = parts.netloc.rpartition("@")[0]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = 80 if parts.scheme == "http" else 443
    return "".join(
        (
            f"{parts.scheme}://",
            f"{user}@" if "@" in parts.netloc else "",
            host,
            "" if port in (None, usual) else f":{port}",
            parts.path,
            f"?{parts.query}" if parts.query else "",
        )
    )


def _box(raw: str | None) -> list[int] | None:
    if raw is None or not re.match(r"\s*\[", raw):
        return None
    try:
        sides = json.loads(raw)
    except ValueError:
        return None
    if len(sides) != 4 or any(type(side) not in (int, float) or not abs(side) < 2**31 for side in sides):
        return None
    left, top, right, bottom = map(round, sides)
    return [left, top, right, bottom] if right > left and bottom > top and right > 0 and bottom > 0 else None


def _size(width: float | None, height: float | None) -> tuple[int, int] | None:
    sides = [side for side in (width, height) if side is not None and 1 <= side < 2**31]
    return (int(sides[0]), int(sides[1])) if len(sides) == 2 else None
