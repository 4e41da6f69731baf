"""Which caption describes which face: FaceCaption's box is matched to the detected face, so a trainer can know."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.dataset.box_readings import Pixels, Size, readings
from curation.dataset.tar.texts import parse_json
from filters import boxes
from filters.boxes import Box

MAX_COORDINATE = 2**31
"""No picture is larger; what claims to be is no box. NaN and infinities fail the comparison too."""
CAPTION_KEYS = ("caption", "captions", "text", "alt_text", "alt", "title", "description")
"""Where in its metadata a sample without a usable `.txt` may have a caption, likeliest first; matched without case."""


@dataclass(frozen=True)
class Caption:
    """One caption of a picture and where it comes from."""

    text: str
    source: str
    """`facecaption` (describes the face in `box`), `laion` (alt text), `text` (its own), or `model` (`caption`)."""
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
    pixels: Pixels | None = None
    """Of which pixels the box is, as stored or upright; None where nothing is bound."""


def clean_caption(text: str, max_characters: int) -> str:
    """Return `text` in NFC on one line: control and format characters out, lone surrogates replaced, cut to length."""
    text = text.encode("utf-8", "replace").decode()
    spaced = "".join(" " if character.isspace() else character for character in text)
    visible = "".join(c for c in spaced if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co"})
    return " ".join(unicodedata.normalize("NFC", visible).split())[:max_characters].rstrip()


def captions_of(caption: str | None, metadata: Mapping[str, Any]) -> tuple[Caption, ...]:
    """Return every usable caption of a sample, FaceCaption's first, in the order they came.

    `caption` is the text of its `.txt`; where that says nothing, the first of `CAPTION_KEYS` that holds a text, or a
    list of texts, takes its place.
    `metadata["facecaptions"]` is the JSON list that `rank` writes: `{"id", "caption", "box": [x1, y1, x2, y2] | null}`.
    """
    candidates = [Caption(entry["caption"], "facecaption", _box(entry.get("box"))) for entry in _facecaptions(metadata)]
    source = "laion" if "facecaptions" in metadata else "text"
    candidates += [Caption(text, source) for text in _usable(caption) or _named_otherwise(metadata)]
    return tuple(candidate for candidate in candidates if clean_caption(candidate.text, 1))


def bind(
    captions: Sequence[Caption],
    faces: Sequence[Box],
    size: Size,
    crawled: Size,
    min_iou: float,
    orientation: int = 1,
    is_ranked: bool = False,
) -> Binding | None:
    """Choose the caption to train on; None where there is no caption at all.

    Each FaceCaption box is turned as EXIF says (`box_readings`), scaled from the crawled to the decoded size (width,
    height) and matched to the detected face of greatest IoU; the best match of at least `min_iou` wins. Otherwise the
    alt text is taken, or else the first caption, and the status says why nothing is bound; where captions are ranked
    (`is_ranked`: best first), the first one is taken whatever its source.
    """
    boxed = [(caption, caption.box) for caption in captions if caption.box is not None]
    ways = readings(size, crawled, orientation)
    matches = [
        (boxes.iou(way.box(box), face), -w, -i, -j)
        for w, way in enumerate(ways)
        for i, (_, box) in enumerate(boxed)
        for j, face in enumerate(faces)
    ]
    iou, w, i, j = max(matches, default=(0.0, 0, 0, 0))
    if iou >= min_iou:
        return Binding(boxed[-i][0], "bound", -j, iou, ways[-w].pixels)
    status = _why_unbound(bool(boxed), bool(faces), bool(ways))
    general = [caption for caption in captions if caption.source != "facecaption"]
    unboxed = [caption for caption in captions if caption.box is None]
    for choice in (captions,) if is_ranked else (general, unboxed, captions):
        if choice:
            return Binding(choice[0], status)
    return None


def _why_unbound(has_box: bool, has_face: bool, same_shape: bool) -> str:
    if not has_box:
        return "no_box"
    if not has_face:
        return "no_face"
    return "no_match" if same_shape else "size_mismatch"


def _named_otherwise(metadata: Mapping[str, Any]) -> list[str]:
    """Return the captions under the likeliest name that holds any."""
    for key in CAPTION_KEYS:
        for name in sorted(metadata):
            if name.casefold() == key and (texts := _usable(metadata[name])):
                return texts
    return []


def _usable(value: Any) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    return [text for text in texts if isinstance(text, str) and clean_caption(text, 1)]


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
