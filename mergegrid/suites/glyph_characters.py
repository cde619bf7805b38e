"""The characters that `glyphs` shows, in the fonts that matplotlib ships.

Characters of one category look alike and characters of different categories do not, so
that what an expert learns is to tell its own classes apart, not to know its category.
"""

import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import matplotlib as mpl
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

# All of these characters are in all of these fonts of DejaVu, by their file names.
_SIX = ("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique", "SansMono")
_MORE = (*_SIX, "Serif", "Serif-Bold", "Serif-Italic")
_FOUR = ("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique")

CATEGORIES: Mapping[str, str] = MappingProxyType(
    {
        "digits": "038567",
        "arrows": "←↑→↓↖↗",
        "chess": "♔♕♖♗♘♙",
        "dice": "⚀⚁⚂⚃⚄⚅",
        "planets": "♀♂♃♄♅♆",
        "music": "♩♪♫♬♭♮",
        "zodiac": "♈♉♊♋♌♍",
        "trigrams": "☰☱☲☳☴☵",
        "braille": "⠟⠻⠷⠾⠫⠞",
        "corners": "┌┐└┘├┤",
        "hebrew": "אבהדלש",
        "cyrillic": "БДЖИЛФ",
        "greek": "ΔΘΛΞΦΨ",
        "circles": "◐◑◒◓◔◕",
        "sky": "☀☁☂☃☄☾",
        "georgian": "აბგდევ",
    }
)
"""The characters of each category, in the order in which classes are taken."""

_FONTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "digits": _MORE,
        "arrows": _MORE,
        "planets": _MORE,
        "music": _MORE,
        "braille": (*_FOUR, "Serif", "Serif-Bold", "Serif-Italic"),
        "corners": _MORE,
        "cyrillic": _MORE,
        "greek": _MORE,
        "circles": _MORE,
        "georgian": _MORE,
        "trigrams": _FOUR,
        "hebrew": _FOUR,
    }
)

CANVAS = 64
"""Pixels along each side of a mask."""

EXTENT = 46
"""Pixels along the longer side of a character on the canvas."""

_POINTS = 120  # drawn large, then scaled down, so that every character is as large


def class_name(character: str) -> str:
    """Name a character as Unicode does.

    Args:
        character: the character.

    Returns:
        Its name in lower case, which is its class's prompt.
    """
    return unicodedata.name(character).lower()


@cache
def masks(category: str, character: str) -> UInt8[np.ndarray, "font height width"]:
    """Draw a character in every font that has its category.

    Args:
        category: a category.
        character: one of its characters.

    Returns:
        Ink, from 0 to 255, on canvases of `CANVAS` x `CANVAS` pixels, centred.
    """
    fonts = _FONTS.get(category, _SIX)
    return np.stack([_draw(character, font) for font in fonts])


def _draw(character: str, font: str) -> UInt8[np.ndarray, "height width"]:
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    face = ImageFont.truetype(str(folder / f"DejaVu{font}.ttf"), _POINTS)
    page = Image.new("L", (3 * _POINTS, 3 * _POINTS))
    ImageDraw.Draw(page).text((_POINTS, _POINTS), character, fill=255, font=face)
    ink = page.crop(page.getbbox())
    factor = EXTENT / max(ink.size)
    size = (max(1, round(ink.width * factor)), max(1, round(ink.height * factor)))
    canvas = Image.new("L", (CANVAS, CANVAS))
    corner = ((CANVAS - size[0]) // 2, (CANVAS - size[1]) // 2)
    canvas.paste(ink.resize(size, Image.Resampling.LANCZOS), corner)
    return np.asarray(canvas)
