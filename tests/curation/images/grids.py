"""AVIF pictures put together from tiles, as cameras and large pictures have them; Pillow writes none."""

import struct

from curation.images.containers.boxes import boxes_in
from filters.base import RgbImage
from tests import pictures


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of these parts."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, version: int, *parts: bytes) -> bytes:
    """A box with a version and no flags."""
    return box(kind, struct.pack(">I", version << 24), *parts)


def grid_avif(tiles: list[RgbImage], name: bytes = b"") -> bytes:
    """A row of equal tiles as one AVIF, whose grid lies in the box `idat`; every item bears `name`."""
    height, width = tiles[0].shape[:2]
    coded, properties = zip(*map(_tile, tiles), strict=True)
    numbers = range(2, 2 + len(tiles))
    whole = full_box(b"ispe", 0, struct.pack(">II", width * len(tiles), height))
    kinds = [(1, b"grid"), *((number, b"av01") for number in numbers)]
    items = [full_box(b"infe", 2, struct.pack(">HH4s", number, 0, kind), name, b"\0") for number, kind in kinds]
    ipco = box(b"ipco", whole, *(properties[0][kind] for kind in (b"ispe", b"pixi", b"av1C", b"colr")))
    own = [(1, bytes([1, 3, 5])), *((number, bytes([2, 3, 0x84, 5])) for number in numbers)]
    said = [struct.pack(">HB", number, len(places)) + places for number, places in own]
    grid = struct.pack(">BBBBHH", 0, 0, 0, len(tiles) - 1, width * len(tiles), height)

    def meta(start: int) -> bytes:
        places = [(1, 1, 0, len(grid))]
        for number, data in zip(numbers, coded, strict=True):
            places.append((number, 0, start, len(data)))
            start += len(data)
        located = [struct.pack(">HHHHII", number, method, 0, 1, at, size) for number, method, at, size in places]
        return full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, struct.pack(">I4s12x", 0, b"pict"), name, b"\0"),
            full_box(b"pitm", 0, struct.pack(">H", 1)),
            full_box(b"iloc", 1, struct.pack(">BBH", 0x44, 0, len(located)), *located),
            full_box(b"iinf", 0, struct.pack(">H", len(items)), *items),
            full_box(b"iref", 0, box(b"dimg", struct.pack(f">HH{len(tiles)}H", 1, len(tiles), *numbers))),
            box(b"iprp", ipco, full_box(b"ipma", 0, struct.pack(">I", len(said)), *said)),
            box(b"idat", grid),
        )

    head = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", *coded)


def _tile(pixels: RgbImage) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the coded bytes of a picture of one item, and its properties by their kind."""
    whole = pictures.encode(pixels, "AVIF", speed=10, quality=95, subsampling="4:4:4")
    top = {one.kind: one for one in boxes_in(whole, 0, len(whole))}
    inside = {one.kind: one for one in boxes_in(whole, top[b"meta"].body + 4, top[b"meta"].end)}
    (ipco, _) = boxes_in(whole, inside[b"iprp"].body, inside[b"iprp"].end)
    properties = {one.kind: whole[one.start : one.end] for one in boxes_in(whole, ipco.body, ipco.end)}
    return whole[top[b"mdat"].body : top[b"mdat"].end], properties
