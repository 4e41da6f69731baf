"""Which caption describes which face: FaceCaption's box is matched to the detected face, so a trainer can know."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.dataset.tar.texts import parse_json
from filters import boxes
from filters.boxes import Box

MAX_ASPECT_CHANGE = 0.02
"""Relative change of aspect ratio up to which a picture counts as a resized copy of the one that was boxed."""

MAX_COORDINATE = 2**31
"""No picture is larger; what claims to be is no box. NaN and infinities fail the comparison too."""


@dataclass(frozen=True)
class Caption:
    """One caption of a picture and where it comes from."""

    text: str
    source: str
    """`facecaption` (describes the face in `box`), `laion` (alt text), or `text` (the shard's `.txt` member)."""
    box: Box | None = None
    """The face it describes, in pixels of the picture as it was when crawled."""


@dataclass(frozen=True)
class Binding:
    """The caption to train on, and the detected face that it belongs to."""

    caption: Caption
    status: str
    """`bound` to face number `face`; otherwise why not: `no_box`, `no_face`, `no_match`, `size_mismatch`."""
    face: int | None = None
    iou: float = 0.0


def clean_caption(text: str, max_characters: int) -> str:
    """Return `text` in NFC on one line: control and format characters out, lone surrogates replaced, cut to length."""
    text = text.encode("utf-8", "replace").decode()
    spaced = "".join(" " if character.isspace() else character for character in text)
    visible = "".join(c for c in spaced if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co"})
    return " ".join(unicodedata.normalize("NFC", visible).split())[:max_characters].rstrip()


def captions_of(caption: str | None, metadata: Mapping[str, Any]) -> tuple[Caption, ...]:
    """Return every usable caption of a sample, FaceCaption's first, in the order they came.

    `metadata["facecaptions"]` is the JSON list that `rank` writes: `{"id", "caption", "box": [x1, y1, x2, y2] | null}`.
    """
    candidates = [Caption(entry["caption"], "facecaption", _box(entry.get("box"))) for entry in _facecaptions(metadata)]
    if caption is not None:
        candidates.append(Caption(caption, "laion" if "facecaptions" in metadata else "text"))
    return tuple(candidate for candidate in candidates if clean_caption(candidate.text, 1))


def bind(
    captions: Sequence[Caption], faces: Sequence[Box], size: tuple[int, int], crawled: tuple[int, int], min_iou: float
) -> Binding | None:
    """Choose the caption to train on; None where there is no caption at all.

    Each FaceCaption box is scaled from the crawled to the decoded size (width, height) and matched to the detected
    face of greatest IoU; the best match of at least `min_iou` wins. Otherwise the alt text is taken, or else the
    first caption, and the status says why nothing is bound.
    """
    boxed = [caption for caption in captions if caption.box is not None]
    scale = _scale(size, crawled)
    if boxed and faces and scale is not None:
        matches = [
            (boxes.iou(_scaled(caption.box, scale), face), -i, -j)
            for i, caption in enumerate(boxed)
            for j, face in enumerate(faces)
            if caption.box is not None
        ]
        iou, i, j = max(matches)
        if iou >= min_iou:
            return Binding(boxed[-i], "bound", -j, iou)
    status = _why_unbound(bool(boxed), bool(faces), scale is not None)
    general = [caption for caption in captions if caption.source != "facecaption"]
    unboxed = [caption for caption in captions if caption.box is None]
    for choice in (general, unboxed, captions):
        if choice:
            return Binding(choice[0], status)
    return None


def _why_unbound(has_box: bool, has_face: bool, same_shape: bool) -> str:
    if not has_box:
        return "no_box"
    if not has_face:
        return "no_face"
    return "no_match" if same_shape else "size_mismatch"


def _scale(size: tuple[int, int], crawled: tuple[int, int]) -> tuple[float, float] | None:
    across, down = size[0] / crawled[0], size[1] / crawled[1]
    return (across, down) if abs(across / down - 1) <= MAX_ASPECT_CHANGE else None


def _scaled(box: Box | None, scale: tuple[float, float]) -> Box:
    assert box is not None
    return box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1]


def _facecaptions(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    facecaptions = metadata.get("facecaptions")
    try:
        entries = parse_json(facecaptions) if isinstance(facecaptions, str) else facecaptions
    except ValueError:
        return []
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("caption"), str)]


def _box(plain: Any) -> Box | None:
    if not (isinstance(plain, list) and len(plain) == 4 and all(isinstance(x, int | float) for x in plain)):
        return None
    if not all(-MAX_COORDINATE < x < MAX_COORDINATE for x in plain):
        return None
    left, top, right, bottom = (float(x) for x in plain)
    return (left, top, right, bottom) if right > left and bottom > top else None
