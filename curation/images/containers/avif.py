"""Walks the boxes of an AVIF file (AV1 Image File Format 1.1; HEIF, ISO/IEC 23008-12) and erases what decoding spares.

Offsets in such a file count from its beginning, so nothing is moved: what goes is overwritten by zeros where it stands.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from curation.images.containers.av1 import frame_sizes
from curation.images.containers.boxes import NUM_FULL_BYTES, Box, Cursor, box_at, boxes_in
from curation.images.containers.parts import Container, ContainerError, Part
from curation.images.signatures import AVIF_BRANDS, brands_of

PILLOW_NAME = "AVIF"
TOP = frozenset({b"ftyp", b"styp", b"meta", b"mdat", b"moov", b"free", b"skip", b"uuid", b"sidx", b"moof", b"mfra"})
"""Boxes of the outermost level; a box of another type is no longer part of the file."""
INSIDE_META = frozenset({b"hdlr", b"pitm", b"iinf", b"iprp", b"iloc", b"iref", b"idat"})
PROPERTIES = frozenset(
    {b"ispe", b"pixi", b"av1C", b"colr", b"irot", b"imir", b"clap", b"pasp", b"auxC", b"a1op", b"lsel"}
)
MAX_CODED, MIN_CODED = 8, 1 << 16
"""A picture's items (itself, tiles that overhang, their alpha) may have so many times its pixels, and a few more."""
FREE, FREE_ITEM = b"free", b"skip"
IN_FILE, IN_IDAT = 0, 1
"""Where an item's bytes lie: in the file at large, or in the box `idat`."""
SRGB_PRIMARIES, HDR_TRANSFERS = frozenset({0, 1, 2, 5, 6, 7}), frozenset({16, 18})
"""Of ITU-T H.273: BT.709, unspecified and BT.601, which differ little; PQ and HLG."""
ORIENTATIONS: Mapping[tuple[int, int | None], int] = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip
"""Quarter turns against the clock, then an exchange of top and bottom (0) or left and right (1) -> EXIF orientation."""


@dataclass(frozen=True)
class Extent:
    """Bytes of an item: where they lie, first and last but one."""

    place: int
    start: int
    end: int


@dataclass(frozen=True)
class Meta:
    """What the box `meta` says of the picture."""

    primary: int
    kept: frozenset[int]
    """The items that make the picture: itself, its tiles, its alpha."""
    properties: Mapping[int, tuple[Box, ...]]
    extents: Mapping[int, tuple[Extent, ...]]


def announces(image_bytes: bytes) -> bool:
    """Whether the first bytes are those of an AVIF file, still or moving."""
    return not AVIF_BRANDS.isdisjoint(brands_of(image_bytes[:1024]))


def read(image_bytes: bytes) -> Container:
    """Walk the file up to the end of its boxes; one with tracks, or of the brand of sequences, is an animation."""
    tops, is_cut = _tops(image_bytes)
    box = next((top for top in tops if top.kind == b"meta"), None)
    meta = None if box is None else _meta(image_bytes, box)
    if meta is not None:
        is_cut = is_cut or max((extent.end for extent in _kept(meta, IN_FILE)), default=0) > tops[-1].end
        if not is_cut:
            _require_sizes(image_bytes, meta)
    whole = memoryview(image_bytes)
    return Container(
        format="avif",
        parts=tuple(Part(top.kind, whole[top.start : top.end], whole[top.body : top.end], top.end) for top in tops),
        end=None if is_cut or not tops else tops[-1].end,
        size=None if meta is None else _size(image_bytes, meta, meta.primary),
        is_animated=any(top.kind == b"moov" for top in tops) or image_bytes[8:12] == b"avis",
        orientation=1 if meta is None else _orientation(image_bytes, meta),
        refusal="colours_unknown" if meta is not None and _has_foreign_colours(image_bytes, meta) else None,
    )


def strip(container: Container) -> bytes:
    """Return the file with all that is not the picture overwritten by zeros: metadata, thumbnails, sequences, names."""
    data = b"".join(part.raw for part in container.parts)
    tops, _ = _tops(data)
    box = next(top for top in tops if top.kind == b"meta")
    meta = _meta(data, box)
    bare = bytearray(data)
    for top in tops:
        if top.kind == b"ftyp":
            bare[top.body : top.end] = data[top.body : top.end].replace(b"avis", b"avif")
        elif top.kind == b"mdat":
            _blank_outside(bare, top, [(e.start, e.end) for e in _kept(meta, IN_FILE)])
        elif top is not box:
            _free(bare, top)
    for child in boxes_in(data, box.body + NUM_FULL_BYTES, box.end):
        _bare_child(bare, child, meta)
    return bytes(bare)


def _tops(data: bytes) -> tuple[list[Box], bool]:
    """Return the whole outermost boxes, and whether the file ends within another."""
    tops: list[Box] = []
    while (start := tops[-1].end if tops else 0) < len(data):
        box = box_at(data, start, len(data))
        if box is None or box.kind not in TOP:
            is_complete = {b"ftyp", b"meta"} <= {top.kind for top in tops}
            return tops, not is_complete
        if box.end > len(data):
            return tops, True
        tops.append(box)
    return tops, not {b"ftyp", b"meta"} <= {top.kind for top in tops}


def _meta(data: bytes, box: Box) -> Meta:
    """Return what `meta` says; raises ContainerError where it says it in a way that cannot be followed."""
    children = {child.kind: child for child in boxes_in(data, box.body + NUM_FULL_BYTES, box.end)}
    if missing := {b"pitm", b"iloc", b"iprp"} - children.keys():
        raise ContainerError(f"avif: meta lacks {sorted(missing)[0]!r}")
    cursor = Cursor(data, children[b"pitm"])
    primary = cursor.number(4 if cursor.version()[0] else 2)
    properties = _properties(data, children[b"iprp"])
    kept, references = {primary}, list(_references(data, children[b"iref"])) if b"iref" in children else []
    for kind, item, others in references:
        kept |= set(others) if kind == b"dimg" and item == primary else set()
    for kind, item, others in references:
        is_alpha = any(_is_alpha(data, one) for one in properties.get(item, ()))
        kept |= {item} if kind == b"auxl" and is_alpha and not kept.isdisjoint(others) else set()
    for kind, item, others in references:
        kept |= set(others) if kind == b"dimg" and item in kept else set()
    return Meta(primary, frozenset(kept), properties, dict(_locations(data, children[b"iloc"])))


def _properties(data: bytes, box: Box) -> dict[int, tuple[Box, ...]]:
    """Return item -> its properties."""
    children = list(boxes_in(data, box.body, box.end))
    known = [prop for child in children if child.kind == b"ipco" for prop in boxes_in(data, child.body, child.end)]
    properties: dict[int, tuple[Box, ...]] = {}
    for child in (child for child in children if child.kind == b"ipma"):
        cursor = Cursor(data, child)
        version, flags = cursor.version()
        for _ in range(cursor.number(4)):
            item = cursor.number(4 if version else 2)
            numbers = [cursor.number(1 + (flags & 1)) for _ in range(cursor.number(1))]
            places = [number & (0x7FFF if flags & 1 else 0x7F) for number in numbers]
            properties[item] = tuple(known[place - 1] for place in places if 0 < place <= len(known))
    return properties


def _references(data: bytes, box: Box) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    """Yield kind, item and the items that it refers to."""
    cursor = Cursor(data, box)
    width = 4 if cursor.version()[0] else 2
    for child in boxes_in(data, cursor.position, box.end):
        inside = Cursor(data, child)
        item = inside.number(width)
        yield child.kind, item, tuple(inside.number(width) for _ in range(inside.number(2)))


def _locations(data: bytes, box: Box) -> Iterator[tuple[int, tuple[Extent, ...]]]:
    """Yield item and where its bytes lie."""
    cursor = Cursor(data, box)
    version, _ = cursor.version()
    sizes = cursor.number(2)
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    index_bytes = index_bytes if version else 0
    for _ in range(cursor.number(4 if version > 1 else 2)):
        item = cursor.number(4 if version > 1 else 2)
        place = cursor.number(2) & 15 if version else IN_FILE
        cursor.take(2)
        base, num_extents = cursor.number(base_bytes), cursor.number(2)
        if num_extents > 1 and index_bytes + offset_bytes + length_bytes == 0:
            raise ContainerError(f"avif: item {item} has {num_extents} parts of no length")
        extents = []
        for _ in range(num_extents):
            cursor.take(index_bytes)
            start = base + cursor.number(offset_bytes)
            length = cursor.number(length_bytes)
            extents.append(Extent(place, start, start + length if length else len(data)))
        yield item, tuple(extents)


def _size(data: bytes, meta: Meta, item: int) -> tuple[int, int] | None:
    for box in meta.properties.get(item, ()):
        if box.kind == b"ispe":
            cursor = Cursor(data, box)
            cursor.version()
            return cursor.number(4), cursor.number(4)
    return None


def _require_sizes(data: bytes, meta: Meta) -> None:
    """Make sure that what is coded is no larger than what is claimed: decoders would unpack it, and then shrink it.

    Raises:
        ContainerError: an item claims another size than its own stream, or the tiles are far larger than the picture.
    """
    num_pixels = 0
    for item in meta.kept:
        claimed = _size(data, meta, item)
        if any(box.kind == b"av1C" for box in meta.properties.get(item, ())):
            own = [extent for extent in meta.extents.get(item, ()) if extent.place == IN_FILE]
            coded = frame_sizes(b"".join(data[extent.start : extent.end] for extent in own))
            if coded - {claimed}:
                raise ContainerError(f"avif: item {item} claims to be {claimed} and {sorted(coded)} pixels")
        num_pixels += 0 if claimed is None else claimed[0] * claimed[1]
    whole = _size(data, meta, meta.primary)
    if whole is not None and num_pixels > MAX_CODED * (whole[0] * whole[1] + MIN_CODED):
        raise ContainerError(f"avif: items of {num_pixels} pixels make a picture of {whole}")


def _orientation(data: bytes, meta: Meta) -> int:
    turns, axis = 0, None
    for box in meta.properties.get(meta.primary, ()):
        if box.kind == b"irot":
            turns = Cursor(data, box).number(1) & 3
        elif box.kind == b"imir":
            axis = Cursor(data, box).number(1) & 1
    return ORIENTATIONS[turns, axis]


def _has_foreign_colours(data: bytes, meta: Meta) -> bool:
    """Whether the colours are neither those of sRGB nor told by an ICC profile: wide gamut or HDR by numbers alone."""
    told = [data[box.body : box.end] for box in meta.properties.get(meta.primary, ()) if box.kind == b"colr"]
    if not told or any(colours[:4] in (b"prof", b"rICC") for colours in told):
        return False
    primaries, transfer = (int.from_bytes(told[0][start : start + 2]) for start in (4, 6))
    return primaries not in SRGB_PRIMARIES or transfer in HDR_TRANSFERS


def _is_alpha(data: bytes, box: Box) -> bool:
    said = data[box.body + NUM_FULL_BYTES : box.end]
    return box.kind == b"auxC" and (b"auxiliary:alpha" in said or said.startswith(b"urn:mpeg:hevc:2015:auxid:1"))


def _kept(meta: Meta, place: int) -> list[Extent]:
    return [extent for item in meta.kept for extent in meta.extents.get(item, ()) if extent.place == place]


def _bare_child(bare: bytearray, child: Box, meta: Meta) -> None:
    if child.kind not in INSIDE_META:
        _free(bare, child)
    elif child.kind == b"hdlr":
        name = min(child.body + 24, child.end)
        bare[name : child.end] = bytes(child.end - name)
    elif child.kind == b"idat":
        own = [(child.body + extent.start, child.body + extent.end) for extent in _kept(meta, IN_IDAT)]
        _blank_outside(bare, child, own)
    elif child.kind == b"iinf":
        _bare_items(bare, child, meta)
    elif child.kind == b"iprp":
        data = bytes(bare)
        for part in boxes_in(data, child.body, child.end):
            for prop in boxes_in(data, part.body, part.end) if part.kind == b"ipco" else ():
                if prop.kind not in PROPERTIES:
                    _free(bare, prop)


def _bare_items(bare: bytearray, box: Box, meta: Meta) -> None:
    """Take their names off the items that stay, and their types as well off those that go."""
    data = bytes(bare)
    cursor = Cursor(data, box)
    cursor.number(4 if cursor.version()[0] else 2)
    for child in boxes_in(data, cursor.position, box.end):
        inside = Cursor(data, child)
        item = inside.number(4 if inside.version()[0] > 2 else 2)
        inside.take(2)
        start, kind = inside.position, inside.take(4)
        kept = kind if item in meta.kept else FREE_ITEM
        bare[start : child.end] = kept.ljust(child.end - start, b"\0")


def _free(bare: bytearray, box: Box) -> None:
    bare[box.start + 4 : box.start + 8] = FREE
    bare[box.body : box.end] = bytes(box.end - box.body)


def _blank_outside(bare: bytearray, box: Box, kept: list[tuple[int, int]]) -> None:
    """Overwrite a box's content by zeros but where one of the ranges lies."""
    position = box.body
    for start, end in sorted(kept):
        if start > position:
            bare[position : min(start, box.end)] = bytes(min(start, box.end) - position)
        position = max(position, min(end, box.end))
    bare[position : box.end] = bytes(box.end - position)
