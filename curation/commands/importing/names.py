"""What known data sets call their columns: names are matched without case, and the likeliest spelling comes first.

| data set | safety columns |
|---|---|
| LAION-400M, LAION-Face | `NSFW`: UNLIKELY, UNSURE, NSFW |
| LAION-2B-en, Re-LAION | `NSFW`, `punsafe`, `pwatermark` |
| COYO-700M | `nsfw_score_opennsfw2`, `nsfw_score_gantman`, `watermark_score` |
| DataComp, CC12M, FaceCaption-15M v1 and v2 | none: the gate needs a waiver |
"""

import re
from collections.abc import Mapping, Sequence

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "URL": ("url", "image_url", "img_url", "imageurl", "link"),
    "url": ("url", "image_url", "img_url", "imageurl", "link"),
    "TEXT": ("text", "caption", "alt", "alt_text", "title"),
    "WIDTH": ("original_width", "width"),
    "HEIGHT": ("original_height", "height"),
    "similarity": ("similarity", "clip_similarity_vitb32", "clip_b32_similarity_score"),
    "LICENSE": ("license",),
    "SAMPLE_ID": ("sample_id",),
    "pwatermark": ("pwatermark", "p_watermark", "watermark", "watermark_score"),
    "sha256": ("sha256",),
    "md5": ("md5",),
    "_id": ("_id", "id", "key"),
    "caption": ("caption", "captions", "text"),
    "box": ("box", "bbox", "face_box"),
}
"""Column of ours -> what sources call it, as `folded` writes it; ours as it is written comes before them."""
SAFETY_MARKS = ("nsfw", "unsafe")
"""A column whose folded name holds one of these speaks of safety, in a known data set or not: none is overlooked."""
TURNED = re.compile(
    r"(^|_)(not|non|no|never|without|anti)(_(is|an|a|any|likely))*_?p?_?(nsfw|unsafe)"
    r"|(nsfw|unsafe)_?(free|less|removed|filtered|passed|absent|ok)(_|$)"
    r"|(^|_)(is_?)?(safe|sfw)(_|$)"
)
"""Words of a name, `_` between them, of which a high value may mean safe: `not_nsfw`, `nsfw_free`, `is_safe`."""
SAFETY = ("NSFW", "punsafe")
"""Columns of ours that all columns of safety together become."""
SIZES = ("WIDTH", "HEIGHT")
"""Where `WIDTH` and `width` are two things: as crawled, and as img2dataset stored it."""


def folded(name: str) -> str:
    """Return a column's name in lower case, `_` for spaces and hyphens."""
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def is_safety(name: str) -> bool:
    """Whether a column speaks of whether a picture is safe, in whichever direction."""
    return any(mark in folded(name) for mark in SAFETY_MARKS) or is_turned(name)


def is_turned(name: str) -> bool:
    """Whether a column may call safe what others call unsafe: nobody knows what its values mean."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return TURNED.search(re.sub(r"[\W_]+", "_", apart).casefold()) is not None


def places_of(field: str, names: Sequence[str]) -> list[int]:
    """Return where among `names` the columns of a field of ours stand, the likeliest first."""
    if field in SAFETY:
        return [place for place, name in enumerate(names) if is_safety(name)]
    places = [place for place, name in enumerate(names) if name == field]
    for spelling in SPELLINGS.get(field, (folded(field),)):
        places += [place for place, name in enumerate(names) if folded(name) == spelling]
    return list(dict.fromkeys(places))
