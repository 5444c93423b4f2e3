"""Colour profiles made by hand: RGB from primaries and a curve, grey from a curve, CMYK from mixed inks."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from functools import cache

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
D65_XY, D50_XY = (0.3127, 0.3290), (0.3457, 0.3585)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

Curve = Callable[[float], float]


def srgb_curve(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def power(gamma: float) -> Curve:
    return lambda value: value**gamma


# Primaries of red, green and blue, white, curve.
SPACES = {
    "Display P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65_XY, srgb_curve),
    "Adobe RGB": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060), D65_XY, power(2.19921875)),
    "ProPhoto": ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), D50_XY, power(1.8)),
    "Rec. 2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65_XY, power(2.4)),
    "eciRGB": ((0.670, 0.330), (0.210, 0.710), (0.140, 0.080), D50_XY, power(1.8)),
    "sRGB": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65_XY, srgb_curve),
}


def _xyz(xy: tuple[float, float]) -> np.ndarray:
    return np.array([xy[0] / xy[1], 1.0, (1 - xy[0] - xy[1]) / xy[1]])


def to_d50(space: str) -> np.ndarray:
    """Return the matrix from a space's linear samples to XYZ under D50."""
    red, green, blue, white, _ = SPACES[space]
    columns = np.stack([_xyz(primary) for primary in (red, green, blue)], axis=1)
    matrix = columns * np.linalg.solve(columns, _xyz(white))
    cone = (BRADFORD @ np.array(D50)) / (BRADFORD @ _xyz(white))
    return np.linalg.inv(BRADFORD) @ np.diag(cone) @ BRADFORD @ matrix


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _curve(curve: Curve) -> bytes:
    table = [round(curve(i / 1023) * 65535) for i in range(1024)]
    return b"curv\0\0\0\0" + struct.pack(">I1024H", 1024, *table)


def _assemble(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(*D50),
        **tags,
    }
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = bytes(4) + struct.pack(">I", 0x02400000) + kind + space + connection + bytes(12) + b"acsp"
    header += bytes(28) + _fixed(*D50)
    header = struct.pack(">I", start + len(body)) + bytes(4) + header[4:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


@cache
def rgb_profile(space: str) -> bytes:
    """Return the profile of a space out of `SPACES`."""
    curve = _curve(SPACES[space][4])
    matrix = to_d50(space)
    tags = {
        name: b"XYZ \0\0\0\0" + _fixed(*matrix[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))
    }
    return _assemble(b"RGB ", b"XYZ ", b"mntr", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def grey_profile(curve: Curve) -> bytes:
    """Return a grey profile with a tone curve."""
    return _assemble(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": _curve(curve)})


def _lab(linear_srgb: np.ndarray) -> np.ndarray:
    ratio = (to_d50("sRGB") @ linear_srgb) / np.array(D50)
    x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@cache
def cmyk_profile(*inks: tuple[int, int, int]) -> bytes:
    """Return a profile of four inks, each given by its solid tone in sRGB, mixed by multiplying."""
    solid = [np.array([srgb_curve(v / 255) for v in ink]) for ink in inks]
    steps, table = [i / 8 for i in range(9)], b""
    for amounts in itertools.product(steps, repeat=4):
        linear = np.prod([1 - amount * (1 - ink) for amount, ink in zip(amounts, solid, strict=True)], axis=0)
        lightness, a, b = _lab(linear)
        table += struct.pack(">3H", round(lightness * 652.8), round((a + 128) * 256), round((b + 128) * 256))
    ends = struct.pack(">2H", 0, 65535)
    lut = b"mft2\0\0\0\0" + bytes((4, 3, 9, 0)) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack(">2H", 2, 2)
    return _assemble(b"CMYK", b"Lab ", b"prtr", {b"A2B0": lut + ends * 4 + table + ends * 3})
