"""Reservations inside files: what somebody wrote against training is found wherever the formats put it."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from curation.images.containers import strip_metadata
from curation.images.reservations import Reservation, holds, reservation_in
from tests.curation.shards import colourful

PLUS = "http://ns.useplus.org/ldf/vocab/"
PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" xmlns:tdm="http://www.w3.org/ns/tdmrep/" {attributes}>{elements}
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def packet(attributes: str = "", elements: str = "") -> bytes:
    """An XMP packet."""
    return PACKET.format(attributes=attributes, elements=elements).encode()


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG with further segments after SOI."""
    whole = b"".join(struct.pack(">BBH", 0xFF, code, 2 + len(payload)) + payload for code, payload in segments)
    picture = colourful(1)
    return picture[:2] + whole + picture[2:]


def jpeg_with(xmp: bytes) -> bytes:
    return jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))


def png_with(xmp: bytes, *, packed: bool = False, raw: bool = False) -> bytes:
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    if raw:
        info.add_text("Raw profile type xmp", f"\nxmp\n{len(xmp):8}\n{xmp.hex()}\n", zip=packed)
    else:
        info.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=packed)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def saved(image_format: str) -> Callable[[bytes], bytes]:
    """A file of a format with a packet, as Pillow writes it."""

    def save(xmp: bytes) -> bytes:
        file = io.BytesIO()
        options = {"tiffinfo": {700: xmp}} if image_format == "TIFF" else {"xmp": xmp}
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file, image_format, **options)
        return file.getvalue()

    return save


WRITERS: Mapping[str, Callable[[bytes], bytes]] = {
    "jpeg": jpeg_with,
    "png": png_with,
    "png, compressed": lambda xmp: png_with(xmp, packed=True),
    "png, raw profile": lambda xmp: png_with(xmp, raw=True),
    "png, compressed raw profile": lambda xmp: png_with(xmp, raw=True, packed=True),
    "webp": saved("WEBP"),
    "tiff": saved("TIFF"),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("xmp", "value"),
    [
        (packet(f'plus:DataMining="{PLUS}DMI-PROHIBITED"'), "DMI-PROHIBITED"),
        (packet("", f"<plus:DataMining>{PLUS}DMI-PROHIBITED-AIMLTRAINING</plus:DataMining>"),
         "DMI-PROHIBITED-AIMLTRAINING"),
        (packet("", f'<x1:DataMining xmlns:x1="y" rdf:resource="{PLUS}DMI-PROHIBITED-SEECONSTRAINT"/>'),
         "DMI-PROHIBITED-SEECONSTRAINT"),
        (packet('tdm:reservation="1"'), "tdm:reservation 1"),
        (packet("", "<tdm:reservation>1</tdm:reservation>"), "tdm:reservation 1"),
        (packet(f'plus:DataMining="{PLUS}DMI-ALLOWED"'), None),
        (packet(f'plus:DataMining="{PLUS}DMI-UNSPECIFIED"'), None),
        (packet('tdm:reservation="0"'), None),
        (packet("", "<tdm:reservation>0</tdm:reservation>"), None),
        (packet(), None),
    ],
)  # fmt: skip
def test_a_packet_is_read_in_every_format(writer: str, xmp: bytes, value: str | None) -> None:
    assert reservation_in(WRITERS[writer](xmp)) == (None if value is None else Reservation("xmp", value))


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", 8 + len(payload)) + kind + payload


def assertion(label: str, content: bytes, kind: bytes = b"cbor", salt: bytes = b"") -> bytes:
    """An assertion store as C2PA nests it, with one assertion."""
    tail = b"\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71"
    toggles = b"\x13" if salt else b"\x03"
    described = box(b"jumd", kind + tail + toggles + label.encode() + b"\0" + (box(b"c2sh", salt) if salt else b""))
    store = box(b"jumd", b"c2as" + tail + b"\x03c2pa.assertions\0")
    return box(b"jumb", store + box(b"jumb", described + box(kind, content)))


def cbor(value: object) -> bytes:
    """Just enough of RFC 8949 for what assertions say."""
    if isinstance(value, str):
        text = value.encode()
        return (bytes([0x60 + len(text)]) if len(text) < 24 else bytes([0x78, len(text)])) + text
    assert isinstance(value, dict)
    return bytes([0xA0 + len(value)]) + b"".join(cbor(key) + cbor(inner) for key, inner in value.items())


def entries(**uses: str) -> dict[str, dict[str, dict[str, str]]]:
    return {"entries": {name.replace("__", "."): {"use": use} for name, use in uses.items()}}


def app11(store: bytes, size: int) -> list[tuple[int, bytes]]:
    """The pieces of a box as APP11 segments carry them."""
    pieces = [store[8:][start : start + size] for start in range(0, len(store) - 8, size)]
    return [(0xEB, b"JP\0\1" + struct.pack(">I", n) + store[:8] + piece) for n, piece in enumerate(pieces, 1)]


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    picture = colourful(1, "PNG")
    chunk = struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
    return picture[:33] + chunk + picture[33:]


def webp_chunk(kind: bytes, payload: bytes) -> bytes:
    picture = colourful(1, "WEBP")
    body = picture[8:] + kind + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


CARRIERS: Mapping[str, Callable[[bytes], bytes]] = {
    "jpeg": lambda store: jpeg(*app11(store, 60_000)),
    "jpeg in pieces": lambda store: jpeg(*app11(store, 23)),
    "png": lambda store: png_chunk(b"caBX", store),
    "webp": lambda store: webp_chunk(b"C2PA", store),
}
C2PA, CAWG = "c2pa.training-mining", "cawg.training-mining"


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(
    ("store", "value"),
    [
        (assertion(C2PA, cbor(entries(c2pa__ai_training="notAllowed"))), f"{C2PA}: ai_training"),
        (assertion(CAWG, cbor(entries(cawg__ai_inference="allowed", cawg__ai_generative_training="notAllowed"))),
         f"{CAWG}: ai_generative_training"),
        (assertion(CAWG, cbor(entries(cawg__data_mining="constrained")), salt=bytes(16)), f"{CAWG}: data_mining"),
        (assertion(C2PA + "__1", json.dumps(entries(c2pa__ai_training="notAllowed")).encode(), b"json"),
         f"{C2PA}__1: ai_training"),
        (assertion(C2PA, b"\xff" * 40), f"{C2PA}: unreadable"),
        (assertion(CAWG, cbor(entries(cawg__ai_training="allowed", cawg__ai_inference="notAllowed"))), None),
        (assertion("c2pa.actions", cbor({"notAllowed": "ai_training"})), None),
        (assertion(C2PA, cbor(entries(c2pa__ai_training="allowed")))
         + assertion(CAWG, cbor(entries(c2pa__ai_training="notAllowed"))), f"{CAWG}: ai_training"),
    ],
)  # fmt: skip
def test_an_assertion_of_any_manifest_is_read(carrier: str, store: bytes, value: str | None) -> None:
    if carrier.startswith("jpeg") and store.count(b"c2pa.assertions") > 1:
        store = box(b"jumb", store)  # APP11 carries one box
    assert reservation_in(CARRIERS[carrier](store)) == (None if value is None else Reservation("c2pa", value))


def test_a_packed_picture_says_nothing_any_more() -> None:
    picture = jpeg_with(packet(f'plus:DataMining="{PLUS}DMI-PROHIBITED"'))
    assert reservation_in(strip_metadata(picture, "jpg")) is None
    assert [reservation_in(colourful(2, kind)) for kind in ("JPEG", "PNG", "WEBP")] == [None] * 3


@given(st.sampled_from(sorted(CARRIERS)), st.integers(0, 400), st.binary(max_size=60))
def test_no_bytes_are_too_broken_to_be_looked_at(carrier: str, place: int, noise: bytes) -> None:
    whole = CARRIERS[carrier](assertion(C2PA, cbor(entries(c2pa__ai_training="notAllowed"))))
    reservation_in(whole[:place] + noise)
    reservation_in(whole[:place] + noise + whole[place + len(noise) :])
    reservation_in(b"\x89PNG\r\n\x1a\n" + b"iTXt" + noise)


@given(st.binary(max_size=80), st.binary(max_size=4), st.booleans())
def test_a_word_is_held_where_python_says_so(text: bytes, word: bytes, is_there: bool) -> None:
    text = text + word + text if is_there else text
    assert holds(text, word) == (word in text)
