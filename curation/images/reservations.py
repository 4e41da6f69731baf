"""What a picture file itself says against its use for training: reservations in XMP, and assertions in C2PA manifests.

Nothing here parses XML or CBOR: the vocabularies are so distinctive that their words are looked for as bytes, in any
file whatever its format, and besides in what the containers compress or cut up. So no parser meets hostile bytes, and
work is bounded by the size of the file. To read a word where nobody meant it costs one picture; to miss one breaks a
promise.
"""

import ctypes
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from curation.images.containers import ContainerError, read_container, sniff_format

PLUS_WORD = b"DMI-PROHIBITED"
PROHIBITED = re.compile(PLUS_WORD + rb"[A-Z-]*")
"""Values of `plus:DataMining`, the IPTC property "Data Mining" (PLUS LDF 2.0.1): each forbids training, or points to
conditions. In UTF-8, as all but the oddest writers have it."""
TDM_NAMESPACE = b"w3.org/ns/tdm"
TDM_RESERVED = re.compile(rb"""\breservation(?:\s*=\s*["']\s*1\b|[^<>]{0,200}>\s*1\s*<)""")
"""`tdm:reservation` of TDMRep (W3C CG), as attribute or element."""
ASSERTION_WORD = b".training-mining"
ASSERTION = re.compile(rb"jumd.{17}((?:c2pa|cawg)\.training-mining[\w.]*)\0", re.DOTALL)
"""The description box of such an assertion: content type, toggles, label (ISO/IEC 19566-5, annex A; C2PA, 11)."""
USES = re.compile(rb"(ai_inference|ai_generative_training|ai_training|data_mining)")
NOT_OURS = b"ai_inference"
FORBIDDEN = re.compile(rb"not_?allowed|constrained", re.IGNORECASE)
MAX_ASSERTION_BYTES = 1 << 16
MAX_TEXT_BYTES = 4 << 20
APP11 = 0xEB
TEXT_CHUNKS = (b"iTXt", b"zTXt", b"tEXt")
NUM_PREFIX_BYTES, NUM_BOX_BYTES = 8, 8
"""Of an APP11 segment that carries a piece of a box: `JP`, instance and sequence number; and LBox with TBox, which each
piece repeats (ISO/IEC 18477-3, annex B)."""


_memmem = ctypes.CDLL(None).memmem
_memmem.restype = ctypes.c_void_p
_memmem.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)


@dataclass(frozen=True)
class Reservation:
    """A reservation that stands in a file."""

    where: str
    """`xmp` or `c2pa`."""
    value: str
    """The value, or the assertion and the use that it forbids."""


def reservation_in(image_bytes: bytes) -> Reservation | None:
    """Return the first reservation that a file of any format holds; never raises, whatever the bytes are."""
    for text in _texts(image_bytes):
        if (found := _in_xmp(text) or _in_c2pa(text)) is not None:
            return found
    return None


def holds(text: bytes, word: bytes) -> bool:
    """Say what `word in text` says, in half the time: every byte of every picture is looked at for four words."""
    return _memmem(text, len(text), word, len(word)) is not None


def _in_xmp(text: bytes) -> Reservation | None:
    if holds(text, PLUS_WORD) and (value := PROHIBITED.search(text)) is not None:
        return Reservation("xmp", value[0].decode())
    if holds(text, TDM_NAMESPACE) and TDM_RESERVED.search(text) is not None:
        return Reservation("xmp", "tdm:reservation 1")
    return None


def _in_c2pa(text: bytes) -> Reservation | None:
    """Return what an assertion of any manifest forbids; one that names no known use forbids all."""
    for found in ASSERTION.finditer(text) if holds(text, ASSERTION_WORD) else ():
        content = text[found.end() : found.end() + MAX_ASSERTION_BYTES]
        following = ASSERTION.search(content)
        _, *pieces = USES.split(content[: following.start()] if following else _content_box(content))
        label, uses = found[1].decode(), dict(zip(pieces[::2], pieces[1::2], strict=True))
        if not uses:
            return Reservation("c2pa", f"{label}: unreadable")
        for use, said in uses.items():
            if use != NOT_OURS and FORBIDDEN.search(said) is not None:
                return Reservation("c2pa", f"{label}: {use.decode()}")
    return None


def _content_box(content: bytes) -> bytes:
    """Return the box that follows a description box, as far as its length says; all where that makes no sense."""
    start = min((place for kind in (b"cbor", b"json") if (place := content.find(kind)) >= 4), default=-1)
    num_bytes = int.from_bytes(content[start - 4 : start]) if start >= 4 else 0
    return content[start + 4 : start - 4 + num_bytes] if num_bytes > NUM_BOX_BYTES else content


def _texts(image_bytes: bytes) -> Iterator[bytes]:
    """Yield the file as it stands, and what its container compresses or cuts up."""
    yield image_bytes
    image_format = sniff_format(image_bytes)
    is_cut_up = image_format == "jpg" and holds(image_bytes, b"jumb")
    is_compressed = image_format == "png" and any(holds(image_bytes, kind) for kind in TEXT_CHUNKS)
    if image_format is None or not (is_cut_up or is_compressed):
        return
    try:
        parts = read_container(image_bytes, image_format).parts
    except ContainerError:
        return
    if is_cut_up:
        yield _joined([bytes(part.payload) for part in parts if part.kind[0] == APP11])
    else:
        yield from (_unpacked(part.kind, bytes(part.payload)) for part in parts if part.kind[1:] in (b"TXt", b"EXt"))


def _joined(segments: list[bytes]) -> bytes:
    """Return the boxes that APP11 segments carry, pieces joined in order."""
    pieces = []
    for segment in segments:
        is_first = int.from_bytes(segment[4:NUM_PREFIX_BYTES]) <= 1
        pieces.append(segment[NUM_PREFIX_BYTES if is_first else NUM_PREFIX_BYTES + NUM_BOX_BYTES :])
    return b"".join(pieces)


def _unpacked(kind: bytes, payload: bytes) -> bytes:
    """Return what a text chunk of a PNG says (W3C PNG, 11.3.3), and raw profiles of ImageMagick out of their hex."""
    keyword, _, rest = payload.partition(b"\0")
    if kind == b"zTXt":
        rest = _inflated(rest[1:])
    elif kind == b"iTXt":
        text = rest[2:].split(b"\0", 2)[-1]
        rest = _inflated(text) if rest[:1] == b"\1" else text
    if keyword.startswith(b"Raw profile type"):
        digits = re.sub(rb"[^0-9a-fA-F]", b"", b"".join(rest.strip().split(b"\n")[2:]))
        rest = bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
    return rest


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, MAX_TEXT_BYTES)
    except zlib.error:
        return b""
