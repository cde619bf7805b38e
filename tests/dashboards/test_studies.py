"""Figures of the papers' studies, each from rows whose numbers are known."""

import re

import pytest

from dashboards import bills, growth, pairs, per_task, sweeps, tables
from dashboards.palette import color, title
from dashboards.text import line_key

ROLES = ("held_in", "generalization")


def lines(figure):
    """The lines and bars of a figure, by what their hover labels call them."""
    drawn = figure.to_plotly_json()["data"]
    return {
        found[1]: trace
        for trace in drawn
        if (found := re.search("<extra>(.*)</extra>", trace.get("hovertemplate") or ""))
    }


def dotted(figure):
    shapes = figure.to_dict()["layout"].get("shapes", ())
    return [shape["y0"] for shape in shapes if shape["line"].get("dash") == "dot"]


EVERY = {
    "scales": lambda ask, role: sweeps.scales(ask("scale_sweeps"), role),
    "selection": lambda ask, role: sweeps.selection(ask("selections"), role),
    "thresholds": lambda ask, role: sweeps.thresholds(
        ask("consensus_thresholds"), role
    ),
    "indexed": lambda ask, role: sweeps.indexed(ask("sensitivity"), [], role),
    "time": lambda ask, role: bills.time_against_accuracy(ask("costs"), role),
    "memory": lambda ask, _role: bills.memory(ask("memory_peaks")),
    "ahead": lambda ask, role: pairs.ahead(ask("bootstrap"), role),
    "incremental": lambda ask, _role: growth.incremental(
        [row for row in ask("incremental") if row["place"] == 1]
    ),
    "profile": lambda ask, role: per_task.profile(
        [row for row in ask("tasks") if row["role"] == role], "ties", ["a/1", "a/2"]
    ),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", EVERY)
def test_there_is_something_to_see_and_without_rows_there_are_only_axes(
    ask_studied, name, role
):
    drawn = EVERY[name](ask_studied, role)
    assert drawn.data
    assert drawn.to_dict()["layout"]["height"] > 0
    empty = EVERY[name](lambda _question: [], role)
    assert empty.to_dict()["layout"]["height"] > 0


@pytest.mark.parametrize("name", EVERY)
def test_a_suite_without_generalization_tasks_has_figures(ask_studied, name):
    def held_in_alone(question):
        return [
            row
            | {key: None for key in row if key.startswith("generalization")}
            | ({"unpruned_generalization": None} if "unpruned_held_in" in row else {})
            for row in ask_studied(question)
            if row.get("role") != "generalization"
        ]

    assert EVERY[name](held_in_alone, "held_in").data
    EVERY[name](held_in_alone, "generalization")


def test_scales_of_several_methods_are_in_one_figure(ask_studied):
    drawn = lines(sweeps.scales(ask_studied("scale_sweeps"), "held_in"))
    assert set(drawn) == {"Task Arithmetic", "TIES"}
    assert drawn["Task Arithmetic"]["x"] == [0.1, 0.3]
    # Three tasks, a point apart; at both scales the largest .6 of the entries are best.
    assert drawn["TIES"]["y"] == pytest.approx([61 + 1, 63 + 1])


def test_random_entries_are_a_broken_line(ask_studied):
    drawn = lines(sweeps.selection(ask_studied("selections"), "held_in"))
    assert {name: trace["line"]["dash"] for name, trace in drawn.items()} == {
        "TIES, largest": "solid",
        "TIES, random": "dash",
    }
    assert drawn["TIES, largest"]["y"] == pytest.approx([60, 64])
    assert drawn["TIES, random"]["y"] == pytest.approx([57, 61])


def test_thresholds_have_the_colour_and_the_line_of_what_they_prune(ask_studied):
    figure = sweeps.thresholds(ask_studied("consensus_thresholds"), "held_in")
    drawn = lines(figure)
    assert drawn["of TIES"]["line"]["color"] == color("ties")
    assert drawn["of Task Arithmetic"]["y"] == pytest.approx([63, 62, 61])
    assert sorted(dotted(figure)) == pytest.approx([63, 64])


def test_methods_without_options_stand_in_the_middle(ask_studied):
    fixed = [r for r in ask_studied("leaderboard") if r["method"] == "average"]
    drawn = lines(sweeps.indexed(ask_studied("sensitivity"), fixed, "held_in"))
    assert drawn["Average"]["x"] == [5]
    # Of its options, consensus has tried the most values of agreement.
    assert drawn["Consensus"]["x"] == [0, 1, 2]
    assert "agreement 1" in str(drawn["Consensus"]["customdata"][0])


def test_one_order_has_a_figure_for_each_task_and_several_one_each(ask_studied):
    rows = ask_studied("incremental")
    shown = growth.panels(rows)
    assert [panel[0]["task"] for panel in shown] == ["b/2", "a/1", "c/3"]
    other = [row | {"series": 2} for row in rows]
    assert [panel[0]["task"] for panel in growth.panels([*rows, *other])] == ["b/2"] * 2


def test_a_task_is_drawn_beside_its_expert(ask_studied):
    (panel, *_) = growth.panels(ask_studied("incremental"))
    figure = growth.incremental(panel)
    assert dotted(figure) == pytest.approx([90])
    average = lines(figure)["Average"]
    assert average["x"] == [2, 3]
    assert average["y"] == pytest.approx([64, 61])
    assert growth.said(panel) == "merged with a/1, then c/3"


def test_a_method_that_was_merged_at_one_size_is_no_line(ask_studied):
    rows = ask_studied("incremental")
    lone = [row | {"method": "mats"} for row in rows if row["size"] == 3]
    found = {row["method"] for panel in growth.panels([*rows, *lone]) for row in panel}
    assert found == {row["method"] for row in rows}
    # The last expert's task has one point for each method, which is drawn.
    *_, last = growth.panels(rows)
    assert lines(growth.incremental(last))["Average"]["x"] == [3]


def test_numbers_in_the_matrix_are_shares_of_draws(ask_studied):
    rows = ask_studied("bootstrap")
    (drawn,) = pairs.ahead(rows, "held_in").data
    for row in rows:
        if row["role"] == "held_in":
            line = drawn.y.index(title(row["method"]))
            column = drawn.x.index(title(row["other"]))
            assert drawn.z[line][column] == pytest.approx(100 * row["ahead"])
            assert drawn.z[line][line] is None


def test_two_methods_are_compared_in_one_sentence_and_one_histogram(ask_studied):
    (row,) = (
        row
        for row in ask_studied("bootstrap")
        if (row["role"], row["method"], row["other"])
        == ("held_in", "ties", "consensus")
    )
    assert pairs.said(row) == (
        "+1.00 points over 3 held-in tasks, 95% interval +1.00 to +1.00; "
        "TIES is ahead in 100.0% of the draws."
    )
    draws = ask_studied("replicates", one="ties", other="consensus")
    found = [draw["difference"] for draw in draws if draw["role"] == "held_in"]
    assert len(found) == 2000
    histogram, interval = pairs.differences(found, row).data
    assert len(histogram.x) == 2000
    assert interval.x == pytest.approx((1, 1))


def cells_of(html):
    rows = re.findall("<tr>(.*?)</tr>", html)
    return [
        [
            re.sub("<[^>]*>", "", cell)
            for cell in re.findall("<t[dh].*?>(.*?)</t[dh]>", r)
        ]
        for r in rows
    ]


def test_the_table_of_tasks_is_printed_as_papers_print_it(ask_studied):
    rows = [row for row in ask_studied("tasks") if row["role"] == "held_in"]
    head, *body = cells_of(per_task.ranked_table(rows))
    assert head == ["method", "mean", *(f"{t}n = 200" for t in ("a/1", "b/2", "c/3"))]
    assert body[0][0] == "TIES"
    assert body[0][1:3] == ["64.0 ± 2.0 (1.0)", "63.0 ± 3.4 (1)"]
    ranks = {line[0]: re.findall(r"\((.*?)\)", "".join(line[1:])) for line in body}
    assert ranks["Task Arithmetic"] == ["2.5"] * 4  # and consensus
    assert ranks["Pretrained"] == []


def test_a_table_of_many_tasks_has_a_line_for_each(ask_studied):
    row = next(row for row in ask_studied("tasks") if row["method"] == "ties")
    many = [row | {"task": f"t{i}"} for i in range(per_task.MOST_COLUMNS + 1)]
    head, first, *others = cells_of(per_task.ranked_table(many))
    assert head == ["task", "TIES"]
    assert first[0] == "mean"
    assert len(others) == per_task.MOST_COLUMNS + 1


def test_experts_by_themselves_are_listed_where_none_was_trained(ask_studied):
    rows = [row for row in ask_studied("tasks") if row["role"] == "generalization"]
    _, *body = cells_of(per_task.ranked_table(rows, ask_studied("experts")))
    assert [line[0] for line in body[-3:]] == [
        "expert of a/1",
        "expert of b/2",
        "expert of c/3",
    ]
    assert body[-1][1:3] == ["31.5 ± 1.6", "30.0 ± 3.2"]


def test_profiles_begin_with_what_is_hardest_for_the_pretrained_model(ask_studied):
    rows = [row for row in ask_studied("tasks") if row["role"] == "held_in"]
    assert per_task.by_difficulty(rows[::-1]) == ["a/1", "b/2", "c/3"]
    drawn = lines(per_task.profile(rows, "ties", ["a/1", "b/2", "c/3"]))
    assert drawn["TIES"]["y"] == pytest.approx([63, 64, 65])
    assert drawn["Individual experts"]["y"] == pytest.approx([90, 90, 90])
    assert drawn["Pretrained"]["line"]["dash"] == "dot"


def test_useless_weights_are_counted_for_each_number_of_experts(ask_studied):
    head, *body = cells_of(tables.useless_weights_table(ask_studied("useless_weights")))
    assert head == ["method", "2 experts", "3 experts"]
    assert body[0] == ["Task Arithmetic", "65.5 (72.8)", "63.0 (70.0)"]
    assert body[1] == ["&emsp;consensus, k = 1", "65.5 (72.8)", "63.0 (70.0)"]
    assert body[2][2] == "62.0 (68.9)"


def test_a_key_escapes_what_it_names():
    assert "<b>" not in line_key({"<b>": "#000000"})
