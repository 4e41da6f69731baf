"""Files that the gate names and refuses: how each format begins, as its definition has it."""

import struct

import numpy as np
from PIL import Image

from tests import pictures

SCENE = pictures.scene(1, 64, 48)


def odd_jpeg(marker: int, precision: int = 8) -> bytes:
    """A JPEG whose frame claims another coding, or more bits per sample, than it has."""
    jpeg = pictures.encode(SCENE, "jpg")
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[:frame] + bytes([0xFF, marker]) + jpeg[frame + 2 : frame + 4] + bytes([precision]) + jpeg[frame + 5 :]


def avif_of_colours(primaries: int, transfer: int) -> bytes:
    """An AVIF whose colours are told by numbers of ITU-T H.273."""
    avif = bytearray(pictures.encode(SCENE, "AVIF"))
    place = avif.index(b"colrnclx") + 8
    avif[place : place + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(avif)


def tiff(order: str, tag: int, value: int, tail: bytes = b"") -> bytes:
    """A TIFF of one directory with one entry, and what stands behind it from byte 26."""
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return start + struct.pack(f"{order}IHHHIII", 8, 1, tag, 2, 1, value, 0) + tail


BEGINNINGS: dict[str, bytes] = {
    "jpg": pictures.encode(SCENE, "jpg"),
    "png": pictures.encode(SCENE, "png"),
    "webp": pictures.encode(SCENE, "webp"),
    "gif": pictures.animation("gif"),
    "avif": pictures.encode(SCENE, "AVIF"),
    "heif": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "jpeg_xl": b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ",
    "jpeg_2000": pictures.encode(SCENE, "JPEG2000"),
    "jpeg_xr": b"II\xbc\1\x20\0\0\0",
    "tiff": pictures.encode(SCENE, "TIFF"),
    "bigtiff": pictures.encode(SCENE, "TIFF", big_tiff=True),
    "camera_raw": b"II*\0\x10\0\0\0CR\2\0",
    "bmp": pictures.encode(SCENE, "BMP"),
    "ico": pictures.encode(SCENE, "ICO"),
    "pnm": pictures.encode(SCENE, "PPM"),
    "psd": b"8BPS\0\1",
    "xcf": b"gimp xcf v011\0",
    "qoi": b"qoif\0\0\0\x40\0\0\0\x30\3\0",
    "tga": pictures.encode(SCENE, "TGA"),
    "pcx": pictures.encode(SCENE, "PCX"),
    "dds": pictures.encode(SCENE, "DDS"),
    "exr": b"\x76\x2f\x31\x01\2\0\0\0",
    "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n",
    "dpx": b"SDPX\0\0\x20\0",
    "fits": b"SIMPLE  =                    T",
    "dicom": bytes(128) + b"DICM",
    "mng": b"\x8aMNG\r\n\x1a\n",
    "other_image": b"BPG\xfb\0\0",
    "svg": b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn --><svg xmlns="http://www.w3.org/2000/svg"/>',
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "video": b"\0\0\0\x18ftypmp42\0\0\0\0isommp42",
    "audio": b"ID3\4\0\0\0",
    "flash": b"CWS\n\0\0\0\0",
    "html": b"\r\n <!DOCTYPE html><title>image not found</title>",
    "xml": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "json": b'{"error": "not found"}',
    "text": b"404 page not found\n",
    "gzip": b"\x1f\x8b\x08\0\0\0\0\0",
    "archive": b"PK\3\4\x14\0",
}
"""Name -> a file, or how one begins."""

OTHERS: tuple[tuple[str, bytes], ...] = (
    ("jpeg_xl", b"\xff\x0a\xfa\x1f\1\x90"),
    ("jpeg_2000", pictures.encode(SCENE, "JPEG2000", no_jp2=True)),
    ("jpeg_2000", b"\xff\x4f\xff\x51\0\x2f"),
    ("heif", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"),
    ("avif", b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif"),
    ("avif", pictures.animation("AVIF")),
    ("camera_raw", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"),
    ("camera_raw", tiff("<", 0xC612, 0x00000401)),
    ("camera_raw", tiff(">", 0x010F, 26, b"NIKON CORPORATION\0")),
    ("camera_raw", b"FUJIFILMCCD-RAW 0201"),
    ("camera_raw", b"IIRO\x08\0\0\0"),
    ("camera_raw", b"IIU\0\x18\0\0\0"),
    ("tiff", tiff("<", 0x010F, 26, b"Canon\0")),
    ("tiff", b"MM\0*\xff\xff\xff\xff"),
    ("bigtiff", b"MM\0+\0\x08\0\0"),
    ("pnm", b"P1\n# a comment\n2 2\n0 1 1 0\n"),
    ("pnm", b"P4 8 8\n" + bytes(8)),
    ("pnm", b"P5\n64 48\n255\n"),
    ("pnm", b"P7\nWIDTH 64\nHEIGHT 48\n"),
    ("pnm", b"Pf\n64 48\n-1.0\n"),
    ("bmp", pictures.encode(Image.fromarray(SCENE).quantize(16), "BMP")),
    ("ico", b"\0\0\2\0\1\0\x10\x10\0\0\0\0\0\0"),
    ("ico", b"icns\0\0\0\x10"),
    ("tga", pictures.encode(SCENE, "TGA")[:-26]),
    ("tga", pictures.encode(Image.fromarray(SCENE).quantize(16), "TGA")[:-26]),
    ("tga", pictures.encode(SCENE, "TGA", compression="tga_rle")[:-26]),
    ("psd", b"8BPS\0\2"),
    ("hdr", b"#?RGBE\n"),
    ("html", b"<html><body>gone</body></html>"),
    ("html", b"<!-- " + b"a" * 300 + b" -->\n<html>"),
    ("html", b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN">'),
    ("html", "\ufeff<!doctype HTML>".encode("utf-16")),
    ("html", "<HEAD><title>n\u00e3o</title>".encode() + b"a" * 985 + "\u00e9\u00e9\u00e9".encode()),
    ("svg", b"<svg width='8'/>"),
    ("xml", b"<rss version='2.0'>"),
    ("json", b'[\n  {"id": 1}\n]'),
    ("text", b"P5 is a kind of picture"),
    ("text", b"RIFF"),
    ("text", b"BM is how a BMP begins"),
    ("text", "nicht gefunden: \u00dcberschrift".encode()),
    ("other_image", b"#define face_width 16\n#define face_height 16\n"),
    ("other_image", b"FLIF\x33\1"),
    ("other_image", pictures.encode(SCENE, "SGI")),
    ("video", b"\x1a\x45\xdf\xa3\1\0\0\0\0\0\0\x1fB\x86"),
    ("video", b"RIFF\x24\0\0\0AVI LIST"),
    ("video", b"\0\0\0\x14ftypqt  \0\0\2\0qt  "),
    ("video", b"FLV\1\5\0\0\0\x09"),
    ("video", (b"\x47" + bytes(187)) * 3),
    ("audio", b"RIFF\x24\0\0\0WAVEfmt "),
    ("audio", b"fLaC\0\0\0\x22"),
    ("archive", b"Rar!\x1a\7\1\0"),
    ("archive", b"a.jpg".ljust(257, b"\0") + b"ustar\x0000"),
    ("gzip", b"BZh91AY&SY"),
    ("gzip", b"\x28\xb5\x2f\xfd\4\0"),
    ("pdf", b"\n\n%PDF-1.4\n"),
)
"""Further files of those names."""

NO_NAME: tuple[bytes, ...] = (
    bytes(64),
    b"\xff" * 64,
    np.random.default_rng(0).bytes(512),
    b"\xff\xd8",
    b"\x89PNG\r\n",
    b"BM" + bytes(60),
)
"""Bytes that are like nothing."""
