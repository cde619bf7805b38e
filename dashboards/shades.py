"""Colours on a dark page: every colour has one counterpart, of the same hue.

Figures are drawn for a white page and then put on a dark one as a whole.
"""

import functools
import re
from typing import cast

from plotly import graph_objects as go

from dashboards.palette import (
    DIVERGING,
    FAINT,
    FRONT,
    GRID,
    INK,
    LEVELS,
    MUTED,
    SEQUENTIAL,
    STAGES,
)

DARK_PAGE = "#12161d"

_NEUTRALS = {
    INK: "#e6eaf0",
    MUTED: "#9aa6b8",
    FAINT: "#4a5668",
    GRID: "#262e3a",
    "white": DARK_PAGE,
    FRONT: "#303a49",
    **dict(zip(SEQUENTIAL, ("#1f2733", "#294868", "#34659a"), strict=True)),
    DIVERGING[0]: "#8f5420",
    **dict(
        zip(
            LEVELS, ("#d6e8fb", "#a3cbf3", "#74abe6", "#4f87cd", "#3c659c"), strict=True
        )
    ),
    **{hue: hue for hue in STAGES.values()},  # seen on both
}
_COLOR = re.compile(r"#[0-9a-f]{6}|white")
_FADED = re.compile(r"rgba\((\d+), (\d+), (\d+), (0\.\d+)\)")

_DARKEST, _DARKEST_ON_DARK, _SLOPE = 25.0, 53.0, 0.75  # L*, of 100

_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_TO_RGB = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)
_WHITE = (0.95047, 1.0, 1.08883)
_EDGE = 6 / 29


def put_on_dark(figure: go.Figure) -> go.Figure:
    """Exchange a figure's colours for those of a dark page.

    Args:
        figure: drawn for a white page.

    Returns:
        A figure of its own.
    """
    return go.Figure(_exchanged(figure.to_plotly_json()))


def text_on_dark(html: str) -> str:
    """Exchange the colours that HTML gives for those of a dark page.

    Args:
        html: written for a white page.

    Returns:
        The HTML.
    """
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: on_dark(found[0]), html)


@functools.cache
def on_dark(hue: str) -> str:
    """Find a colour's counterpart on a dark page.

    Args:
        hue: "white", a hexadecimal colour, or one from `palette.faded`.

    Returns:
        The colour, with its lightness L* of CIELAB moved from the dark to the light
        half.
    """
    if hue in _NEUTRALS:
        return _NEUTRALS[hue]
    if faded := _FADED.fullmatch(hue):
        solid = "#{:02x}{:02x}{:02x}".format(*map(int, faded.groups()[:3]))
        red, green, blue = _bytes_of(on_dark(solid))
        return f"rgba({red}, {green}, {blue}, {faded[4]})"
    lightness, a, b = _lab(hue)
    lifted = _DARKEST_ON_DARK + _SLOPE * (lightness - _DARKEST)
    return _hexadecimal(min(lifted, 100.0), a, b)


def _exchanged(value: object) -> object:
    if isinstance(value, dict):
        described = cast("dict[str, object]", value)
        return {name: _exchanged(inner) for name, inner in described.items()}
    if isinstance(value, list | tuple):
        return [_exchanged(inner) for inner in cast("list[object]", value)]
    if isinstance(value, str) and (_COLOR.fullmatch(value) or _FADED.fullmatch(value)):
        return on_dark(value)
    return value


def _bytes_of(hue: str) -> tuple[int, int, int]:
    return int(hue[1:3], 16), int(hue[3:5], 16), int(hue[5:7], 16)


def _lab(hue: str) -> tuple[float, float, float]:
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (byte / 255 for byte in _bytes_of(hue))
    ]
    x, y, z = (
        part ** (1 / 3) if part > _EDGE**3 else part / (3 * _EDGE**2) + 4 / 29
        for part in (
            sum(map(float.__mul__, row, linear)) / white
            for row, white in zip(_TO_XYZ, _WHITE, strict=True)
        )
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def _hexadecimal(lightness: float, a: float, b: float) -> str:
    y = (lightness + 16) / 116
    xyz = [
        white * (part**3 if part > _EDGE else 3 * _EDGE**2 * (part - 4 / 29))
        for part, white in zip((y + a / 500, y, y - b / 200), _WHITE, strict=True)
    ]
    linear = [min(max(sum(map(float.__mul__, row, xyz)), 0.0), 1.0) for row in _TO_RGB]
    parts = [
        12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055
        for part in linear
    ]
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
