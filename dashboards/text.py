"""Numbers, tables and figures for people, as HTML."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from plotly import graph_objects as go

from dashboards.frame import layout_of
from dashboards.palette import color, symbol

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SHORT = 100

DASH = "&ndash;"
"""Stands for a number that there is none of."""


_SHAPES = {
    "circle": "circle(46%)",
    "square": "inset(12%)",
    "triangle-up": "polygon(50% 6%, 97% 90%, 3% 90%)",
    "triangle-down": "polygon(50% 94%, 97% 10%, 3% 10%)",
    "triangle-right": "polygon(94% 50%, 10% 97%, 10% 3%)",
    "star": "polygon(50% 2%, 63% 37%, 100% 38%, 71% 60%, 80% 95%, 50% 75%, 20% 95%, "
    "29% 60%, 0 38%, 37% 37%)",
    "cross": "polygon(35% 5%, 65% 5%, 65% 35%, 95% 35%, 95% 65%, 65% 65%, 65% 95%, "
    "35% 95%, 35% 65%, 5% 65%, 5% 35%, 35% 35%)",
    "diamond": "polygon(50% 2%, 98% 50%, 50% 98%, 2% 50%)",
    "hourglass": "polygon(8% 8%, 92% 8%, 50% 50%, 92% 92%, 8% 92%, 50% 50%)",
    "bowtie": "polygon(8% 8%, 50% 50%, 92% 8%, 92% 92%, 50% 50%, 8% 92%)",
    "pentagon": "polygon(50% 3%, 98% 39%, 80% 95%, 20% 95%, 2% 39%)",
}


def glyph(method: str) -> str:
    """Draw the point that stands for a method in figures.

    Args:
        method: its name in the results.

    Returns:
        HTML.
    """
    shape = _SHAPES[symbol(method)]
    style = f"background:{color(method)};clip-path:{shape}"
    return f'<span class="glyph" style="{style}"></span>'


def percent(value: float | None, error: float | None = None) -> str:
    """Write a fraction as percent, with its standard error.

    Args:
        value: the fraction.
        error: its standard error, if there is one.

    Returns:
        HTML such as "66.4 ± 1.1"; a dash for nothing.
    """
    if value is None:
        return DASH
    if error is None:
        return f"{100 * value:.1f}"
    return f'{100 * value:.1f} <span class="error">± {100 * error:.1f}</span>'


def quantity(value: float | None, unit: str = "") -> str:
    """Write a large number with a prefix.

    Args:
        value: the number.
        unit: what it counts, to follow the prefix.

    Returns:
        Text such as "1.5 GFLOPs"; a dash for nothing.
    """
    if value is None:
        return DASH
    for size, prefix in _PREFIXES:
        if abs(value) >= size:
            return f"{_three_digits(value / size)} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()


def duration(seconds: float | None) -> str:
    """Write seconds in the unit that fits.

    Args:
        seconds: how many.

    Returns:
        Text such as "2.2 s", "4 min 55 s" or "3.1 h"; a dash for nothing.
    """
    if seconds is None:
        return DASH
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{_three_digits(seconds)} s"
    if seconds < 7200:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{_three_digits(seconds / 3600)} h"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], kind: str = "") -> str:
    """Write rows as they come from the database as a table.

    Args:
        columns: names of the columns.
        rows: the values.
        kind: class of the table.

    Returns:
        HTML.
    """
    words = [
        any(isinstance(row[index], str) for row in rows)
        for index in range(len(columns))
    ]
    head = "".join(
        _cell("th", column, is_text=word)
        for column, word in zip(columns, words, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            _cell("td", _plain(value), is_text=word)
            for value, word in zip(row, words, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def line_key(hues: Mapping[str, str]) -> str:
    """Say what is drawn in which colour.

    Args:
        hues: what, in words, to its colour.

    Returns:
        HTML.
    """
    named = "".join(
        f'<span><i style="border-color:{hue}"></i>{escape(name)}</span>'
        for name, hue in hues.items()
    )
    return f'<p class="key">{named}</p>'


def figure_html(figure: go.Figure, *, heading: str = "", caption: str = "") -> str:
    """Write a figure with the data that the page's script draws it from.

    Args:
        figure: the figure; its height is fixed, its width is the page's.
        heading: plain text above it.
        caption: HTML below it.

    Returns:
        HTML.
    """
    drawing = figure.to_json()  # in which plotly escapes what could end the script
    height = layout_of(figure)["height"]
    above = f"<h3>{escape(heading)}</h3>" if heading else ""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return (
        f'<figure>{above}<div class="plot" style="height:{height}px">'
        f'</div><script type="application/json">{drawing}</script>{below}</figure>'
    )


def _cell(tag: str, text: str, *, is_text: bool) -> str:
    return f"<{tag}{' class=text' if is_text else ''}>{escape(text)}</{tag}>"


def _plain(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= _SHORT else f"{value:.3g}"
