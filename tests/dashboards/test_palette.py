"""Whether colours can be told apart, by anybody, on white pages and on dark ones."""

import itertools

import numpy as np
import pytest

from dashboards.frame import empty_figure
from dashboards.palette import (
    INK,
    KINDS,
    LEVELS,
    LOOKS,
    MERGINGS,
    ROLES,
    STAGES,
    color,
    faded,
    legible,
    symbol,
)
from dashboards.shades import DARK_PAGE, on_dark, put_on_dark, text_on_dark
from dashboards.text import glyph
from mergegrid.methods import METHODS

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of
# Color Vision Deficiency", 2009, for linear RGB and the severest forms.
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
CLEARLY = 12  # in CIELAB; 2.3 can just be told apart, side by side
PAGES = {"white": ("#ffffff", lambda hue: hue), "dark": (DARK_PAGE, on_dark)}


def linear(hue):
    parts = np.array([int(hue[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    x = XYZ @ np.clip(rgb, 0, 1) / (XYZ @ np.ones(3))
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(one, other, vision):
    seen = (lab(VISION[vision] @ linear(hue)) for hue in (one, other))
    return np.linalg.norm(np.subtract(*seen))


def contrast(one, other):
    low, high = sorted(XYZ[1] @ linear(hue) + 0.05 for hue in (one, other))
    return high / low


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("page", PAGES)
def test_methods_differ_in_shape_or_to_everybody_in_colour(page, vision):
    _, shown = PAGES[page]
    for one, other in itertools.combinations([*METHODS, *LOOKS], 2):
        if one != other and symbol(one) == symbol(other):
            hues = shown(color(one)), shown(color(other))
            assert difference(*hues, vision) > CLEARLY, (one, other)


@pytest.mark.parametrize("vision", VISION)
def test_stages_and_kinds_of_tasks_differ_to_everybody_in_colour(vision):
    for hues in (STAGES, ROLES):
        for one, other in itertools.combinations(hues, 2):
            seen = difference(hues[one], hues[other], vision)
            assert seen > CLEARLY - 2, (one, other)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("page", PAGES)
def test_kinds_of_layers_and_of_merging_differ_to_everybody_in_colour(page, vision):
    _, shown = PAGES[page]
    mergings = [hue for hue, _ in MERGINGS.values()]
    for hues in (KINDS.values(), mergings):
        for one, other in itertools.combinations(hues, 2):
            assert difference(shown(one), shown(other), vision) > CLEARLY, (one, other)


@pytest.mark.parametrize("page", PAGES)
def test_the_first_level_stands_out_most_and_each_from_the_next(page):
    ground, shown = PAGES[page]
    contrasts = [contrast(shown(hue), ground) for hue in LEVELS]
    assert contrasts == sorted(contrasts, reverse=True)
    for one, other in itertools.pairwise(LEVELS):
        assert difference(shown(one), shown(other), "usual") > CLEARLY


@pytest.mark.parametrize("page", PAGES)
def test_points_stand_out_and_labels_can_be_read(page):
    ground, shown = PAGES[page]
    for method in LOOKS:
        assert contrast(shown(color(method)), ground) > 3, method
        assert contrast(shown(legible(color(method))), ground) > 4.45, method


def test_every_method_has_a_look_of_its_own():
    assert METHODS.keys() <= LOOKS.keys()
    assert len(set(LOOKS.values())) == len(LOOKS)
    assert color("new_method") == color("new_method")


def test_what_is_half_transparent_stays_so_on_dark_pages():
    hue = color("ties")
    assert on_dark(faded(hue)) == faded(on_dark(hue))


def test_a_figure_on_a_dark_page_has_no_colour_of_the_white_one():
    figure = empty_figure("x", "y")
    figure.add_scatter(x=[1], y=["white"], marker={"color": ["white", INK]})
    dark = put_on_dark(figure)
    assert dark.data[0].marker.color == (DARK_PAGE, on_dark(INK))
    assert dark.layout.font.color == on_dark(INK)
    assert figure.layout.font.color == INK


def test_tables_and_figures_show_one_shape_in_one_colour():
    for method in LOOKS:
        assert color(method) in glyph(method)
        assert on_dark(color(method)) in text_on_dark(glyph(method))
