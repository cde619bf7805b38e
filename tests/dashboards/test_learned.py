"""Pages about learned merging, and the mark of methods that saw the test inputs."""

import json
import re
from html import unescape

import pytest

from dashboards import bills, coefficients, columns, learning
from dashboards.board import board
from dashboards.learned_tables import budgets_table, learning_costs_table, spread_table
from dashboards.palette import STAGES, color, symbol, title
from dashboards.per_task import ranked_table
from dashboards.questions import ask as ask_question
from dashboards.report import write_report
from dashboards.text import glyph
from dashboards.transductive import MARK, key, marked, unmarked
from flows.answers import leaderboard

SECTIONS = {"learned_coefficients", "learning_curves", "budgets", "learning_costs"}
ADAMERGING = marked("adamerging")


def coefficient(place, value, task="a/1", kind="attention", depth=0, **columns):
    return {
        "method": "supermerge",
        "options": "",
        "task": task,
        "place": place,
        "parameter": f"p{place}",
        "layer_kind": kind,
        "depth": depth,
        "layers": None if depth is None else 2,
        "value": value,
        "seeds": 1,
    } | columns


MODEL = [
    coefficient(0, 0.1, kind="embedding", depth=None),
    coefficient(1, 0.2),
    coefficient(2, -0.4),
    coefficient(3, 0.8, depth=1),
    *(coefficient(place, 0.5, "b/2") for place in (1, 2)),
    coefficient(0, 0.5, "b/2", kind="embedding", depth=None),
    coefficient(3, 0.5, "b/2", depth=1),
]


def maps(figure):
    return [t for t in figure.to_plotly_json()["data"] if t["type"] == "heatmap"]


def test_a_map_has_a_line_for_each_expert_and_a_column_for_each_parameter():
    figure = coefficients.by_parameter(MODEL, 1.0)
    (drawn,) = maps(figure)
    assert list(drawn["y"]) == ["a/1", "b/2"]
    assert [list(line) for line in drawn["z"]] == [[0.1, 0.2, -0.4, 0.8], [0.5] * 4]
    assert drawn["customdata"][0][2] == "p2<br>a/1: -0.400"
    axis = figure.to_dict()["layout"]["xaxis"]
    assert (axis["tickvals"], axis["ticktext"]) == ([1, 3], ["0", "1"])


def test_with_too_many_parameters_a_column_is_the_mean_over_a_layer(monkeypatch):
    monkeypatch.setattr(columns, "MOST_PARAMETERS", 3)
    (drawn,) = maps(coefficients.by_parameter(MODEL, 1.0))
    assert list(drawn["z"][0]) == pytest.approx([0.1, -0.1, 0.8])
    assert drawn["customdata"][0][1] == "layer 0, mean of 2 parameters<br>a/1: -0.100"


def test_each_kind_of_layer_has_a_panel_of_means_by_depth():
    embedding, attention = maps(coefficients.by_kind(MODEL, 1.0))
    assert list(embedding["x"]) == [columns.OUTSIDE]
    assert list(attention["x"]) == ["0", "1"]
    assert list(attention["z"][0]) == pytest.approx([-0.1, 0.8])
    assert attention["customdata"][0][1] == (
        "attention in layer 1, mean of 1 parameter<br>a/1: 0.800"
    )


def test_maps_share_a_scale_about_zero_that_ends_at_one():
    assert coefficients.extent_of(MODEL) == 0.8
    assert coefficients.extent_of([*MODEL, coefficient(4, -7.0)]) == 1.0
    for draw in (coefficients.by_parameter, coefficients.by_kind):
        ends = {(m["zmin"], m["zmax"]) for m in maps(draw(MODEL, 0.8))}
        assert ends == {(-0.8, 0.8)}


def test_of_very_many_layers_only_some_are_numbered():
    rows = [coefficient(n, 0.1, depth=n, layers=24) for n in range(24)]
    for draw in (coefficients.by_parameter, coefficients.by_kind):
        axis = draw(rows, 1.0).to_dict()["layout"]["xaxis"]
        assert [int(depth) for depth in axis["tickvals"]] == [*range(0, 24, 3)]


def test_of_very_many_experts_only_some_are_named():
    rows = [coefficient(0, 0.1, f"task {number:02}") for number in range(70)]
    named = coefficients.by_parameter(rows, 1.0).to_dict()["layout"]["yaxis"]
    assert len(named["tickvals"]) == 24


def look(updates, loss=None, held_out=None, labels=None, **columns):
    return {
        "method": "supermerge",
        "options": "",
        "seed": 0,
        "node": "",
        "updates": updates,
        "loss": loss,
        "held_out": held_out,
        "labels": labels,
        "collapsed": [],
        "is_chosen": True,
    } | columns


def test_losses_are_solid_and_what_is_held_out_is_broken():
    rows = [look(0, held_out=2.0), look(10, 1.0, 1.5), look(20, 0.5, 1.2)]
    solid, broken = learning.curves(rows).data
    assert (solid.x, solid.y, solid.line.dash) == ((10, 20), (1.0, 0.5), "solid")
    assert (broken.y, broken.line.dash) == ((2.0, 1.5, 1.2), "dash")


def test_the_merge_of_everything_with_chosen_options_stands_out():
    rows = [
        look(10, 1.0),
        look(10, 1.0, node="a/1+b/2+c/3"),
        look(10, 1.0, options="steps 5", is_chosen=False),
    ]
    other, part, whole = learning.curves(rows).data
    assert whole.line.width > part.line.width == other.line.width
    assert whole.line.color == part.line.color != other.line.color
    assert "merge of 3 experts" in part.hovertemplate
    assert "merge of" not in whole.hovertemplate


def test_a_collapse_is_said_in_words_with_its_tasks():
    fallen = look(9, labels=0.1, collapsed=["a/1", "b/2"])
    said = learning.collapse([fallen])
    assert said.startswith("Collapsed: the model answers a/1, b/2 with fewer than 50%")
    many = look(9, collapsed=[f"t{number}" for number in range(9)])
    assert "t0, t1, t2, t3 and 5 more" in learning.collapse([many])
    pale = look(9, options="x", collapsed=["a/1"], is_chosen=False)
    assert "not chosen" in learning.collapse([look(9), pale])
    assert learning.collapse([look(9)]) == ""


def test_labels_kept_are_in_percent_above_the_line_of_a_collapse():
    figure = learning.labels_kept([look(0, labels=1.0), look(5, labels=0.25)])
    assert figure.data[0].y == (100, 25)
    assert [shape["y0"] for shape in figure.to_dict()["layout"]["shapes"]] == [50]


def test_without_labels_a_method_stands_at_none_and_sweeps_are_lines(ask_learned):
    rows, recipes = ask_learned("budgets"), ask_learned("budget_curve")
    figure = learning.against_labels(rows, recipes, "held_in")
    axis = figure.to_dict()["layout"]["xaxis"]
    assert axis["ticktext"][0] == "none"
    assert axis["tickvals"][0] < 24
    (sweep,) = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert sweep.x == (24, 96)
    assert sweep.y == pytest.approx((67, 73))
    texts = [note["text"] for note in figure.to_dict()["layout"]["annotations"]]
    assert title(ADAMERGING) in texts


EMPTY = {
    "parameters": lambda: coefficients.by_parameter([], 1.0),
    "kinds": lambda: coefficients.by_kind([], 1.0),
    "spread": lambda: coefficients.spread([]),
    "curves": lambda: learning.curves([]),
    "labels": lambda: learning.labels_kept([]),
    "budgets": lambda: learning.against_labels([], [], "held_in"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_without_rows_there_are_only_axes(name):
    assert EMPTY[name]().to_dict()["layout"]["height"] > 0


def test_shares_of_coefficients_are_counted_and_so_is_what_a_bound_stops(ask_learned):
    adamerging, supermerge = ask_learned("coefficient_spread")
    assert adamerging["method"] == ADAMERGING
    # From 1.5 down by .5 for each parameter: 1.5, 1, .5, 0.
    assert (adamerging["negative"], adamerging["near_zero"]) == (0, 0.25)
    assert adamerging["near_bound"] == 0.5
    # 1.2, .7, .2, -.3: the first is beyond the bound of the hyperbolic tangent.
    assert (supermerge["negative"], supermerge["near_bound"]) == (0.25, 0.25)
    text = spread_table([adamerging, supermerge])
    assert "25.0" in text
    assert title(ADAMERGING) in text


def test_tables_say_how_many_examples_and_of_what_kind(ask_learned):
    costs = unescape(learning_costs_table(ask_learned("learning_costs")))
    assert "96 labelled" in costs
    assert "600 unlabelled" in costs
    assert "4 MB" in costs
    assert "600" in budgets_table(ask_learned("budgets"))


def test_stages_of_learning_have_titles_and_colours_of_their_own():
    rows = [
        {"method": "ties", "stage": stage, "amortized_seconds": 1.0}
        for stage in ("merge", "learn", "few_shot")
    ]
    drawn = bills.stages(rows, ["ties"]).data
    assert [trace.name for trace in drawn] == ["few-shot", "learn", "merge"]
    assert len({trace.marker.color for trace in drawn} & {*STAGES.values()}) == 3


def test_models_for_reference_that_were_trained_on_few_examples_have_titles():
    assert title("few_shot") == "Few-shot multitask"
    assert title("few_shot_average") == "Few-shot from the average"


def test_a_mark_is_put_once_taken_off_and_explained_where_it_is():
    assert marked(marked("ties")) == marked("ties") == f"ties{MARK}"
    assert unmarked(marked("ties")) == unmarked("ties") == "ties"
    assert title(ADAMERGING) == f"AdaMerging{MARK}"
    assert (color(ADAMERGING), symbol(ADAMERGING)) == (
        color("adamerging"),
        symbol("adamerging"),
    )
    assert glyph(ADAMERGING) == glyph("adamerging")
    assert "Transductive" in key(title(ADAMERGING))
    assert "Transductive" in key(json.dumps(title(ADAMERGING)))
    assert key("AdaMerging") == ""


MARKED = (
    "leaderboard",
    "held_in_vs_generalization",
    "tasks",
    "normalized",
    "costs",
    "stages",
    "memory_peaks",
    "bootstrap",
    "budgets",
    "coefficients",
    "learning",
    "learning_costs",
)


@pytest.mark.parametrize("question", MARKED)
def test_every_answer_marks_the_methods_that_have_seen_the_test_inputs(
    ask_learned, question
):
    names = {row["method"] for row in ask_learned(question)}
    assert ADAMERGING in names
    assert "adamerging" not in names
    assert not any(name.endswith(MARK) for name in names - {ADAMERGING})


def test_other_experts_whose_merge_has_not_seen_them_are_not_marked(ask_learned):
    for question in ("leaderboard", "tasks", "paired"):
        names = {row["method"] for row in ask_learned(question, subset=2)}
        assert "adamerging" in names
        assert names == {unmarked(name) for name in names}


def test_a_list_of_merges_marks_each_by_its_own_options(ask_learned):
    marks = {
        row["size"]: row["method"]
        for row in ask_learned("cells")
        if unmarked(row["method"]) == "adamerging"
    }
    assert marks == {2: "adamerging", 3: ADAMERGING}


def test_what_is_about_all_sizes_marks_what_has_seen_the_inputs_at_any(ask_learned):
    found = {(row["method"], row["size"]) for row in ask_learned("scaling")}
    assert {(ADAMERGING, 2), (ADAMERGING, 3)} <= found


def test_the_best_method_that_others_are_compared_with_is_marked_too(ask_learned):
    assert {row["best"] for row in ask_learned("paired")} == {ADAMERGING}
    assert ADAMERGING in {row["other"] for row in ask_learned("bootstrap")}


def test_a_marked_method_can_be_asked_about(learning_database):
    values = {"experiment": "learned", "subset": 1}
    found = ask_question(learning_database, "tasks", values, methods=[ADAMERGING])
    assert {row["method"] for row in found.rows} == {ADAMERGING}
    values |= {"one": ADAMERGING, "other": "average"}
    assert ask_question(learning_database, "replicates", values).tuples


def test_tables_of_methods_show_the_mark(ask_learned):
    shown = title(ADAMERGING)
    assert shown in board(ask_learned("leaderboard"))
    assert shown in ranked_table(ask_learned("tasks"))


def test_the_commands_own_table_shows_the_mark_and_its_meaning(
    learning_database, small
):
    answers = leaderboard(learning_database, "learned")
    assert ADAMERGING in {row[0] for row in answers.rows}
    assert f"{MARK} transductive" in answers.title
    assert MARK not in leaderboard(small, "small").title


@pytest.fixture(scope="module")
def pages(learning_database, small, tmp_path_factory):
    """Each section of the reports of an experiment that learns, and of one that does
    not."""
    found = {}
    for database, name in ((learning_database, "learned"), (small, "small")):
        path = tmp_path_factory.mktemp("reports") / "report.html"
        write_report(database, name, path)
        text = path.read_text(encoding="utf-8")
        parts = re.findall(r'<section id="(\w+)">(.*?)</section>', text, re.DOTALL)
        (header,) = re.findall(r"<header>(.*?)</header>", text, re.DOTALL)
        found[name] = dict(parts) | {"header": header}
    return found


def test_a_report_has_sections_about_learning_if_something_was_learned(pages):
    assert pages["learned"].keys() >= SECTIONS
    assert pages["small"].keys() & SECTIONS == {"budgets"}  # options were chosen


def test_every_section_that_shows_a_marked_method_says_what_the_mark_means(pages):
    shown = {name: title(ADAMERGING) in text for name, text in pages["learned"].items()}
    assert shown["header"]
    assert shown["leaderboard"]
    assert shown["tasks"]
    assert shown["trade_off"]
    assert shown["learning_curves"]
    for name, text in pages["learned"].items():
        assert ("&dagger; Transductive" in text) == shown[name], name
    assert not any("Transductive" in text for text in pages["small"].values())


def test_a_collapse_is_written_below_the_curves(pages):
    assert "Collapsed: the model answers b/2" in pages["learned"]["learning_curves"]
