import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import bills, figures, standings
from dashboards.labels import Box, place_labels
from dashboards.palette import LOOKS, title
from dashboards.text import duration, percent, quantity, table


def labels(figure):
    return sorted(note["text"] for note in figure.to_dict()["layout"]["annotations"])


def test_every_merge_is_named_beside_its_point(ask):
    rows = ask("held_in_vs_generalization")
    near = figures.held_in_vs_generalization(rows, references=False)
    assert labels(near) == ["Average", "Fisher", "Pretrained", "RegMean", "TIES"]
    far = figures.held_in_vs_generalization(rows)
    assert labels(far) == ["Individual experts", "Multitask", "Pretrained"]


def test_points_are_where_the_rows_say(ask):
    rows = ask("held_in_vs_generalization")
    figure = figures.held_in_vs_generalization(rows)
    points = {(trace.x[0], trace.y[0]) for trace in figure.data if len(trace.x) == 1}
    for row in rows:
        assert (100 * row["held_in"], 100 * row["generalization"]) in points


def test_a_ring_marks_the_chosen_value(ask):
    line = [row for row in ask("sensitivity") if row["method"] == "ties"]
    figure = figures.sensitivity(line, None, ceiling=0.7)
    for trace in figure.data:
        assert trace.x == (0.1, 0.5, 1.0)
        assert trace.marker.color[1] == "white"
        assert "white" not in (trace.marker.color[0], trace.marker.color[2])


def test_words_are_options_too():
    row = {
        "method": "slerp",
        "option": "variant",
        "number": None,
        "held_in_se": 0.01,
        "generalization": 0.5,
        "generalization_se": 0.01,
        "is_chosen": True,
    }
    line = [
        row | {"value": "raw", "held_in": 0.5},
        row | {"value": "unit", "held_in": 0.6},
    ]
    assert figures.sensitivity(line, None, ceiling=0.7).data[0].x == ("raw", "unit")


def test_lines_need_two_sizes(ask):
    figure = figures.scaling(ask("scaling"), "held_in")
    assert "Fisher" not in labels(figure)
    assert {"Average", "TIES", "RegMean", "Pretrained", "Multitask"} == set(
        labels(figure)
    )


EVERY = {
    "near": lambda ask: figures.held_in_vs_generalization(
        ask("held_in_vs_generalization"), references=False
    ),
    "far": lambda ask: figures.held_in_vs_generalization(
        ask("held_in_vs_generalization")
    ),
    "sensitivity": lambda ask: figures.sensitivity(ask("sensitivity"), None, 0.7),
    "scaling": lambda ask: figures.scaling(ask("scaling"), "normalized"),
    "paper": lambda ask: figures.against_paper(
        ask(
            "against_paper",
            paper="realistic",
            paper_suite="domainnet",
            paper_model="ViT-B-32",
        ),
        "held_in",
    ),
    "costs": lambda ask: bills.cost_against_accuracy(ask("costs"), "held_in"),
    "stages": lambda ask: bills.stages(ask("stages"), ["ties", "regmean"]),
    "sharing": lambda ask: bills.sharing(ask("sharing")),
    "ranking": lambda ask: standings.ranking(ask("leaderboard")),
    "behind": lambda ask: standings.behind_best(ask("paired"), "held_in"),
    "by task": lambda ask: standings.by_task(
        ask("cell_scores", cell="average-0-{}"), "average"
    ),
}
"""Every figure with a numeric axis."""


@pytest.mark.parametrize("name", EVERY)
def test_axes_say_what_they_are_in_which_unit(ask, name):
    layout = EVERY[name](ask).to_dict()["layout"]
    titles = [layout[axis]["title"]["text"] for axis in ("xaxis", "yaxis")]
    numeric = [text for text in titles if text]
    assert numeric
    for text in numeric:
        is_number = text in {"number of experts merged", "off_diagonal", "scale"}
        assert is_number or re.search(r", (%|s|FLOPs|points)$", text), text


@pytest.mark.parametrize("name", EVERY)
def test_without_rows_there_are_only_axes(name):
    figure = EVERY[name](lambda _question, **_values: [])
    assert figure.to_dict()["layout"]["height"] > 0


@pytest.mark.parametrize("name", ["near", "ranking", "behind", "costs"])
def test_a_method_looks_the_same_in_every_figure(ask, name):
    drawn = EVERY[name](ask).to_plotly_json()["data"]
    looks = {
        (trace["marker"]["color"], trace["marker"]["symbol"])
        for trace in drawn
        if "<extra>TIES" in str(trace.get("hovertemplate"))
    }
    hue, shape = LOOKS["ties"]
    assert looks
    assert looks <= {(hue, shape), (hue, f"{shape}-open")}


def test_numbers_of_experts_do_not_touch_below_their_axis():
    row = {"method": "ties", "kind": "merged", "samples": 1, "held_in_sd": 0.01}
    rows = [row | {"size": size, "held_in": 0.5} for size in range(2, 25)]
    axis = figures.scaling(rows, "held_in").to_dict()["layout"]["xaxis"]
    places = [math.log10(tick) for tick in axis["tickvals"]]
    whole = axis["range"][1] - axis["range"][0]
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert min(gaps) / whole > 0.05
    assert axis["tickvals"][-1] == 24


spread = st.tuples(st.floats(40, 350), st.floats(20, 320))


@given(st.lists(spread, min_size=1, max_size=8, unique=True))
def test_labels_do_not_hide_one_another(points):
    texts = ["Task Arithmetic"] * len(points)
    offsets = place_labels(points, texts, 390, 350)
    boxes = [
        Box(x + right, y + down, 90, 12)
        for (x, y), (right, down) in zip(points, offsets, strict=True)
    ]
    for index, box in enumerate(boxes):
        assert all(box.overlap(other) < 100 for other in boxes[:index])


def test_a_lone_label_is_close_to_its_point():
    ((right, down),) = place_labels([(200, 200)], ["MaTS"], 390, 350)
    assert math.hypot(right, down) < 40


def test_a_box_inside_another_overlaps_with_all_of_itself():
    assert Box(5, 5, 2, 3).overlap(Box(0, 0, 100, 100)) == 6
    assert Box(5, 5, 2, 2).overlap(Box(50, 50, 2, 2)) == 0


def test_a_method_that_is_not_known_is_called_by_its_name():
    assert title("new_method") == "new method"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (quantity(None), "&ndash;"),
        (quantity(999), "999"),
        (quantity(1536, "B"), "1.54 kB"),
        (quantity(6.52e11, "FLOPs"), "652 GFLOPs"),
        (duration(0.0123), "12.3 ms"),
        (duration(2.0149), "2.01 s"),
        (duration(295), "4 min 55 s"),
        (duration(36000), "10 h"),
        (percent(0.6789), "67.9"),
        (percent(0.5, 0.011), '50.0 <span class="error">± 1.1</span>'),
        (percent(None, None), "&ndash;"),
    ],
)
def test_numbers_are_short(text, expected):
    assert text == expected


def test_tables_escape_what_they_show():
    assert "<b>" not in table(["<b>"], [("<b>",)])
