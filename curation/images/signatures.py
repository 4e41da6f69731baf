"""What bytes are that no reader here takes, told by how they begin: a name for the ledger, not a parser.

Nothing in here trusts or follows a file beyond its first bytes (of TGA, which has no beginning of its own, the last).
"""

import re
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

NUM_TEXT_BYTES = 1024
"""How far a text is looked at."""

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "gif": "a GIF",
        "avif": "an AVIF, still or moving",
        "heif": "a HEIF or HEIC",
        "jpeg_xl": "a JPEG XL",
        "jpeg_2000": "a JPEG 2000 (JP2, J2K, JPX)",
        "jpeg_xr": "a JPEG XR",
        "tiff": "a TIFF",
        "bigtiff": "a BigTIFF",
        "camera_raw": "a camera's raw picture (CR2, CR3, CRW, NEF, DNG, RAF, ORF, RW2, X3F, MRW)",
        "bmp": "a BMP",
        "ico": "an icon or cursor (ICO, CUR, ICNS)",
        "pnm": "a PBM, PGM, PPM, PAM or PFM",
        "psd": "a Photoshop document (PSD, PSB)",
        "xcf": "a GIMP picture",
        "qoi": "a QOI",
        "tga": "a TGA",
        "pcx": "a PCX",
        "dds": "a DDS or another texture (KTX)",
        "exr": "an OpenEXR",
        "hdr": "a Radiance HDR",
        "dpx": "a DPX",
        "fits": "a FITS",
        "dicom": "a DICOM",
        "mng": "a MNG or JNG",
        "other_image": "a picture of a rare format (BPG, FLIF, DjVu, JBIG2, SGI, Sun raster, EMF, WMF, XPM, XBM)",
        "svg": "an SVG",
        "eps": "an EPS or PostScript",
        "pdf": "a PDF",
        "video": "a video",
        "audio": "a sound",
        "flash": "a Flash film",
        "html": "an HTML page",
        "xml": "an XML text",
        "json": "a JSON text",
        "text": "a plain text",
        "gzip": "compressed (gzip, bzip2, xz, zstd)",
        "archive": "an archive (ZIP, RAR, 7z, tar)",
    }
)
"""Every name that `name_of` gives, and what it says of a file."""

PREFIXES: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("gif", (b"GIF87a", b"GIF89a")),
    ("jpeg_xl", (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
    ("jpeg_2000", (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    ("jpeg_xr", (b"II\xbc\x00", b"II\xbc\x01")),
    ("bigtiff", (b"II+\0", b"MM\0+")),
    ("camera_raw", (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")),
    ("camera_raw", (b"II\x1a\0\0\0HEAPCCDR",)),
    ("psd", (b"8BPS",)),
    ("xcf", (b"gimp xcf",)),
    ("qoi", (b"qoif",)),
    ("dds", (b"DDS ", b"\xabKTX ")),
    ("exr", (b"\x76\x2f\x31\x01",)),
    ("hdr", (b"#?RADIANCE", b"#?RGBE")),
    ("dpx", (b"SDPX", b"XPDS")),
    ("fits", (b"SIMPLE  =",)),
    ("ico", (b"icns",)),
    ("mng", (b"\x8aMNG", b"\x8bJNG")),
    ("other_image", (b"BPG\xfb", b"FLIF", b"AT&TFORM", b"\x97JB2", b"\x01\xda\0", b"\x01\xda\1", b"\x59\xa6\x6a\x95")),
    ("other_image", (b"\xd7\xcd\xc6\x9a", b"/* XPM */", b"\1\0\0\0\x6c\0\0\0", b"\1\0\0\0\x58\0\0\0")),
    ("eps", (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    ("gzip", (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")),
    ("archive", (b"PK\3\4", b"PK\5\6", b"Rar!\x1a\7", b"7z\xbc\xaf\x27\x1c")),
    ("video", (b"\x1a\x45\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3", b"FLV\1", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
    ("audio", (b"ID3", b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1")),
    ("video", (b"OggS",)),
    ("flash", (b"FWS", b"CWS", b"ZWS")),
)
"""Name -> how such a file begins."""
PLACED: tuple[tuple[str, int, bytes], ...] = (
    ("video", 8, b"AVI "),
    ("audio", 8, b"WAVE"),
    ("video", 4, b"moov"),
    ("video", 4, b"mdat"),
    ("dicom", 128, b"DICM"),
    ("archive", 257, b"ustar"),
)
"""Name, offset in bytes, and what stands there."""

AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"})
AUDIO_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P "})
CR2_MARK, NIKON, DNG_VERSION, MAKE = b"CR", b"NIKON", 0xC612, 0x010F
BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Sizes in bytes of the headers that BMP has had."""
TGA_FOOTER = b"TRUEVISION-XFILE.\0"
TGA_TYPES, TGA_DEPTHS = frozenset({1, 2, 3, 9, 10, 11}), frozenset({8, 15, 16, 24, 32})
PNM = re.compile(rb"P[1-6fF]\s+(?:#[^\n]*\n\s*)*+\d|P7\s+(?:#|WIDTH|HEIGHT|DEPTH|MAXVAL|TUPLTYPE|ENDHDR)")
JSON = re.compile(r'[\[{]\s*(?:["{}\[\]]|-?\d|true|false|null)')
HTML = re.compile(
    r"(?:(?><!--.*?-->)\s*|(?><\?xml.*?\?>)\s*)*+"
    r"<(?:!doctype\s+html|(?:html|head|body|script|title|meta|link|style|div|p|a|h\d|table|center|iframe|br)\b)",
    re.DOTALL,
)


def name_of(image_bytes: bytes) -> str | None:
    """Return the key of `NAMES` that fits the bytes best, or None where they are like nothing known here."""
    head = image_bytes[:NUM_TEXT_BYTES]
    return next((name for tell in TELLS if (name := tell(image_bytes, head))), None)


def brands_of(head: bytes) -> tuple[bytes, ...]:
    """Return the brands of an ISO base media file (ISO/IEC 14496-12, 4.3), the major one first; empty for others."""
    if head[4:8] != b"ftyp":
        return ()
    end = min(int.from_bytes(head[:4]), len(head))
    return (head[8:12], *(head[start : start + 4] for start in range(16, end - 3, 4)))


def _by_beginning(image_bytes: bytes, head: bytes) -> str | None:
    by_prefix = next((name for name, prefixes in PREFIXES if head.startswith(prefixes)), None)
    return by_prefix or next((name for name, offset, mark in PLACED if head[offset : offset + len(mark)] == mark), None)


def _by_brand(image_bytes: bytes, head: bytes) -> str | None:
    brands = brands_of(head)
    if not brands:
        return None
    if AVIF_BRANDS.intersection(brands):
        return "avif"
    if HEIF_BRANDS.intersection(brands):
        return "heif"
    if brands[0] == b"crx ":
        return "camera_raw"
    return "audio" if brands[0] in AUDIO_BRANDS else "video"


def _by_tiff(image_bytes: bytes, head: bytes) -> str | None:
    """Tell TIFF from the raw pictures that use its form: CR2 by its mark, NEF by its maker, DNG by its version tag."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None:
        return None
    if head[8:10] == CR2_MARK:
        return "camera_raw"
    try:
        (directory,) = struct.unpack_from(f"{order}I", image_bytes, 4)
        (num_entries,) = struct.unpack_from(f"{order}H", image_bytes, directory)
        for entry in range(directory + 2, directory + 2 + 12 * num_entries, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHII", image_bytes, entry)
            if tag == DNG_VERSION or (tag == MAKE and image_bytes[value : value + len(NIKON)] == NIKON):
                return "camera_raw"
    except struct.error:
        pass
    return "tiff"


def _by_fields(image_bytes: bytes, head: bytes) -> str | None:
    """Name formats of short or no marks, whose first fields must make sense besides."""
    if PNM.match(head):
        return "pnm"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADERS:
        return "bmp"
    if head[:4] in (b"\0\0\1\0", b"\0\0\2\0") and 0 < int.from_bytes(head[4:6], "little") < 1000:
        return "ico"
    if len(head) >= 128 and head[0] == 10 and head[1] <= 5 and head[2] == 1 and head[3] in (1, 2, 4, 8):
        return "pcx"
    if len(head) > 376 and {head[0], head[188], head[376]} == {0x47}:
        return "video"
    return "tga" if image_bytes.endswith(TGA_FOOTER) or _is_tga(head) else None


def _is_tga(head: bytes) -> bool:
    if len(head) < 18:
        return False
    has_map, kind, map_bytes = head[1], head[2], head[3:8]
    width, height, depth = struct.unpack_from("<HHB", head, 12)
    is_map_right = (has_map == 1) == any(map_bytes) and has_map in (0, 1)
    return is_map_right and kind in TGA_TYPES and depth in TGA_DEPTHS and min(width, height) > 0 and head[17] < 64


def _by_text(image_bytes: bytes, head: bytes) -> str | None:
    if b"%PDF-" in head:
        return "pdf"
    encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(head[:2], "utf-8")
    text = head.decode(encoding, "replace").lstrip("\ufeff").strip().lower()
    text = text.rstrip("\0") if text.startswith("<") else text
    cut = text[:-1] if text.endswith("\ufffd") else text  # a character that the end of the head cuts
    if not cut or not all((sign.isprintable() or sign.isspace()) and sign != "\ufffd" for sign in cut):
        return None
    return next((name for name, is_so in TEXTS if is_so(cut)), "text")


TEXTS: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("html", HTML.match),
    ("svg", lambda text: text.startswith("<") and "<svg" in text),
    ("xml", lambda text: text.startswith(("<?xml", "<rss", "<!--", "<!doctype", "<error"))),
    ("other_image", lambda text: text.startswith("#define ") and "_width" in text),
    ("json", lambda text: JSON.match(text) or text == "null"),
)
"""Name -> whether a text in lower case is so; the first that fits."""
TELLS: tuple[Callable[[bytes, bytes], str | None], ...] = (_by_beginning, _by_brand, _by_tiff, _by_fields, _by_text)
"""What is asked in turn: each takes all bytes and their beginning."""
