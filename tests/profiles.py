"""ICC profiles made by hand, small enough that what each must do to a colour is plain."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np

LINEAR = np.linspace(0, 1, 1024)
SRGB_CURVE = np.where(LINEAR <= 0.04045, LINEAR / 12.92, ((LINEAR + 0.055) / 1.055) ** 2.4)
SRGB_PRIMARIES = {
    b"r": (0.43607, 0.22249, 0.01392),
    b"g": (0.38515, 0.71687, 0.09708),
    b"b": (0.14307, 0.06061, 0.7141),
}


def icc_profile(kind: bytes, space: bytes, tags: Mapping[bytes, bytes], connection: bytes = b"XYZ ") -> bytes:
    """A version 2 ICC profile: device class, colour space and tags of four letters (ICC.1:2001-04, section 6)."""
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    header = struct.pack(
        ">I4s4s4s4s4s12x4s28xiii48x",
        128 + len(table) + len(bodies), b"", b"\2\x10", kind, space, connection, b"acsp", 63190, 65536, 54061,
    )  # fmt: skip
    return header + table + bodies


def icc_xyz(x: float, y: float, z: float) -> bytes:
    """An ICC tag of one XYZ number."""
    return struct.pack(">4s4xiii", b"XYZ ", *(round(value * 65536) for value in (x, y, z)))


def icc_curve(levels: Sequence[float]) -> bytes:
    """An ICC tag of a curve, from even steps in 0..1 to `levels` in 0..1."""
    values = [round(level * 65535) for level in levels]
    return struct.pack(f">4s4xI{len(values)}H", b"curv", len(values), *values)


def rgb_profile(primaries: str = "rgb") -> bytes:
    """The sRGB profile whose channels lie in this order: in "grb" the first sample is green."""
    tags = {}
    for name, primary in zip((b"r", b"g", b"b"), primaries.encode(), strict=True):
        tags[name + b"XYZ"] = icc_xyz(*SRGB_PRIMARIES[bytes([primary])])
        tags[name + b"TRC"] = icc_curve(list(SRGB_CURVE))
    return icc_profile(b"mntr", b"RGB ", tags)


def linear_grey_profile() -> bytes:
    """A grey profile whose samples are light itself."""
    tags = {b"wtpt": icc_xyz(0.9642, 1.0, 0.8249), b"kTRC": icc_curve([0.0, 1.0])}
    return icc_profile(b"mntr", b"GRAY", tags)


def press_profile() -> bytes:
    """A CMYK profile with a table of two steps per ink, in which black ink alone makes any difference: L* = 100 - K."""
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    ramp = bytes(range(256))
    nodes = b"".join(bytes([0 if node % 2 else 255, 128, 128]) for node in range(16))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + nodes + ramp * 3
    return icc_profile(b"prtr", b"CMYK", {b"A2B0": table}, connection=b"Lab ")
