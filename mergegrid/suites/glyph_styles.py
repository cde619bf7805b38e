"""The domains of `glyphs`: six styles in which the same characters are drawn.

Axes: n images, y rows, x columns. Ink and colours lie in [0, 1]. Everything is drawn
for many images at once, on the large canvas, and scaled down at the end.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor
from torch.nn import functional

Ink: TypeAlias = Float[Tensor, "n 1 y x"]
Picture: TypeAlias = Float[Tensor, "n 3 y x"]
Style: TypeAlias = Callable[[Ink, Generator], Picture]

ROTATION = 6.0
"""Greatest rotation, in degrees."""

SHIFT = 2 / 64
"""Greatest shift along each axis, as a fraction of the canvas."""

SCALE = (0.92, 1.08)
"""Smallest and greatest factor on the size."""


def draw(
    ink: Ink,
    style: str,
    *,
    size: int,
    jitter: float,
    zoom: float,
    exposure: float,
    generator: Generator,
) -> UInt8[Tensor, "n 3 size size"]:
    """Draw characters in one style, each slightly turned, moved and scaled.

    Args:
        ink: the characters, centred.
        style: a name from `STYLES`.
        size: pixels along each side of the pictures.
        jitter: factor on the greatest rotation, shift and change of size.
        zoom: factor on the size of the characters.
        exposure: factor on the brightness of the pictures.
        generator: decides everything that varies.

    Returns:
        The pictures as bytes.
    """
    picture = STYLES[style](_jittered(ink, jitter, zoom, generator), generator)
    small = functional.interpolate(
        picture, size=(size, size), mode="bilinear", antialias=True
    )
    return small.clamp(0, 1).mul(255 * exposure).round().to(torch.uint8)


def _jittered(ink: Ink, jitter: float, zoom: float, generator: Generator) -> Ink:
    n = len(ink)
    angle = _uniform((n,), generator, -1, 1) * math.radians(ROTATION) * jitter
    factor = zoom * (1 + (_uniform((n,), generator, *SCALE) - 1) * jitter)
    shift = _uniform((n, 2), generator, -2 * SHIFT, 2 * SHIFT) * jitter  # [-1, 1] axis
    cosine, sine = angle.cos() / factor, angle.sin() / factor
    rows = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=-1)
    grid = functional.affine_grid(
        rows.view(n, 2, 3), list(ink.shape), align_corners=False
    )
    return functional.grid_sample(ink, grid, align_corners=False)


def _uniform(
    shape: tuple[int, ...], generator: Generator, low: float, high: float
) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _color(n: int, generator: Generator, low: float, high: float) -> Tensor:
    return _uniform((n, 3, 1, 1), generator, low, high)


def _clouds(like: Tensor, cells: int, channels: int, generator: Generator) -> Tensor:
    n, _, height, width = like.shape
    coarse = torch.rand((n, channels, cells, cells), generator=generator)
    return functional.interpolate(
        coarse, size=(height, width), mode="bicubic", align_corners=False
    )


def _grain(like: Tensor, generator: Generator) -> Tensor:
    n, _, height, width = like.shape
    return torch.randn((n, 1, height, width), generator=generator)


def _thicker(ink: Ink, pixels: int) -> Ink:
    side = (
        2 * pixels + 1
    )  # rows first, then columns: the same, in a fraction of the time
    tall = functional.max_pool2d(ink, (side, 1), stride=1, padding=(pixels, 0))
    return functional.max_pool2d(tall, (1, side), stride=1, padding=(0, pixels))


def _thinner(ink: Ink, pixels: int) -> Ink:
    return 1 - _thicker(1 - ink, pixels)


def _blurred(ink: Tensor, pixels: int) -> Tensor:
    return functional.avg_pool2d(
        ink, 2 * pixels + 1, stride=1, padding=pixels, count_include_pad=False
    )


def _wobbled(ink: Ink, amount: float, cells: int, generator: Generator) -> Ink:
    n, _, height, width = ink.shape
    identity = torch.eye(2, 3).expand(n, 2, 3)
    grid = functional.affine_grid(identity, [n, 1, height, width], align_corners=False)
    offsets = (_clouds(ink, cells, 2, generator) - 0.5) * 2 * amount
    return functional.grid_sample(
        ink, grid + offsets.movedim(1, -1), align_corners=False
    )


def _laid(ink: Ink, color: Tensor, ground: Tensor) -> Picture:
    return ground + ink * (color - ground)


def _clipart(ink: Ink, generator: Generator) -> Picture:
    n = len(ink)
    page = _color(n, generator, 0.85, 1.0).expand(n, 3, *ink.shape[2:])
    outlined = _laid(_thicker(ink, 2), torch.zeros(1, 3, 1, 1), page)
    return _laid(ink, _color(n, generator, 0.0, 0.7), outlined)


def _sketch(ink: Ink, generator: Generator) -> Picture:
    contour = (_thicker(ink, 1) - _thinner(ink, 1)).clamp(0, 1)
    pencil = contour * _clouds(ink, 12, 1, generator).mul(0.8).add(0.5).clamp(0, 1)
    paper = 0.92 + 0.03 * _grain(ink, generator)
    return _laid(pencil, torch.full((1, 3, 1, 1), 0.25), paper.expand(-1, 3, -1, -1))


def _painting(ink: Ink, generator: Generator) -> Picture:
    n = len(ink)
    ground = _color(n, generator, 0.4, 0.8) + 0.5 * (
        _clouds(ink, 5, 3, generator) - 0.5
    )
    paint = _color(n, generator, 0.0, 0.35) + 0.3 * (
        _clouds(ink, 6, 3, generator) - 0.5
    )
    stroke = _wobbled(_thicker(_blurred(ink, 1), 1), 0.06, 7, generator)
    return _laid(stroke, paint, ground)


def _quickdraw(ink: Ink, generator: Generator) -> Picture:
    line = (_wobbled(ink, 0.09, 4, generator) > 0.4).to(ink.dtype)
    return 1 - 0.95 * line.expand(-1, 3, -1, -1)


def _infograph(ink: Ink, generator: Generator) -> Picture:
    n, _, height, width = ink.shape
    panel = _color(n, generator, 0.05, 0.45).expand(n, 3, height, width)
    rows = torch.arange(height).view(1, 1, height, 1)
    columns = torch.arange(width).view(1, 1, 1, width)
    spacing = torch.randint(8, 15, (n, 1, 1, 1), generator=generator)
    ruled = ((rows % spacing == 0) | (columns % spacing == 0)).to(ink.dtype)
    bar = (rows > _uniform((n, 1, 1, 1), generator, 0.86, 0.96) * height).to(ink.dtype)
    ground = _laid(bar, _color(n, generator, 0.5, 1.0), panel + 0.25 * ruled)
    return _laid(ink, _color(n, generator, 0.75, 1.0), ground)


def _real(ink: Ink, generator: Generator) -> Picture:
    n = len(ink)
    texture = 0.25 * (_clouds(ink, 16, 1, generator) - 0.5)
    wall = _color(n, generator, 0.45, 0.75) + texture
    shadow = functional.pad(_blurred(ink, 3), (4, 0, 4, 0))[..., :-4, :-4]
    shaded = wall * (1 - 0.5 * shadow)
    is_dark = _uniform((n, 1, 1, 1), generator, 0, 1) < 0.5
    body = torch.where(
        is_dark, _color(n, generator, 0, 0.25), _color(n, generator, 0.85, 1)
    )
    light = 0.7 + 0.6 * _clouds(ink, 2, 1, generator)
    photo = _laid(_blurred(ink, 1), body, shaded) * light
    return photo + 0.04 * _grain(ink, generator)


STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "clipart": _clipart,
        "sketch": _sketch,
        "painting": _painting,
        "quickdraw": _quickdraw,
        "infograph": _infograph,
        "real": _real,
    }
)
"""Every domain's style, in the order in which categories are assigned to domains."""
