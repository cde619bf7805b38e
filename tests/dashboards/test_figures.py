import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import figures
from dashboards.labels import Box, place_labels
from dashboards.palette import COLORS, color, title
from dashboards.questions import QUESTIONS
from dashboards.text import duration, percent, quantity, table
from mergegrid.methods import METHODS


@pytest.fixture(scope="module")
def ask(small):
    def answer(question):
        columns, rows = small.query(QUESTIONS[question], {"experiment": "small"})
        return [dict(zip(columns, row, strict=True)) for row in rows]

    return answer


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


def test_stages_of_a_bar_add_up_to_the_leaderboard(ask):
    board = {row["method"]: row for row in ask("leaderboard")}
    figure = figures.stages(ask("stages"), ["regmean"])
    total = sum(trace.x[0] for trace in figure.data)
    assert total == pytest.approx(board["regmean"]["amortized_seconds"])


def test_differences_are_against_the_best(ask):
    figure = figures.behind_best(ask("paired"), "held_in")
    points = [(trace.y[0], pytest.approx(trace.x[0])) for trace in figure.data]
    assert points == [("TIES", -6), ("Fisher", -7), ("Average", -10)]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.held_in_vs_generalization([]),
        lambda: figures.cost_against_accuracy([], "held_in"),
        lambda: figures.scaling([], "held_in"),
        lambda: figures.kept_accuracy([]),
        lambda: figures.stages([], []),
        lambda: figures.against_paper([], "held_in"),
        lambda: figures.behind_best([], "held_in"),
    ],
)
def test_without_rows_there_are_only_axes(draw):
    assert draw().to_dict()["layout"]["height"] > 0


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


def test_every_method_has_a_colour_and_a_title_of_its_own():
    assert set(METHODS) <= set(COLORS)
    assert len({color(method) for method in METHODS}) == len(METHODS)
    assert title("new_method") == "new method"
    assert color("new_method") == color("new_method")


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
