"""Figures about task vectors, from the rows of their questions."""

import math
import re

import pytest

from dashboards import interference
from dashboards.palette import KINDS, MERGINGS
from dashboards.report import write_report
from dashboards.scientific import axis_name, power_of
from dashboards.vector_sections import at_one_density, by_merged, chosen_shares
from dashboards.violins import MOST_TICKS, extent_of, is_weight, violins
from mergegrid.profiles.distribution import PER_MILLE

NORMAL = [-3e-3 + 6e-6 * level for level in PER_MILLE]


def layer(parameter="blocks.0.attn.weight", **columns):
    return {
        "task": "a/1",
        "place": 0,
        "parameter": parameter,
        "layer_kind": "attention",
        "depth": 0,
        "layers": 2,
        "entries": 400,
        "norm": 0.03,
        "deviation": 1.7e-3,
        "median": 0.0,
        "quantiles": NORMAL,
    } | columns


MODEL = [
    layer("embed", layer_kind="embedding", depth=None, layers=None),
    layer("blocks.0.attn.weight"),
    layer("blocks.0.attn.bias"),
    layer("blocks.0.norm.weight", layer_kind="norm"),
    layer("blocks.1.attn.weight", depth=1, quantiles=[2 * q for q in NORMAL]),
    layer("logit_scale", layer_kind="other", depth=None, layers=None, entries=1),
]


def traces(figure, **wanted):
    return [
        trace
        for trace in figure.to_plotly_json()["data"]
        if all(trace.get(name) == value for name, value in wanted.items())
    ]


def test_every_weight_has_a_violin_in_the_colour_of_its_kind():
    figure = violins(MODEL)
    drawn = traces(figure, fill="toself")
    assert [(t["name"], t["line"]["color"]) for t in drawn] == [
        (kind, KINDS[kind]) for kind in ("embedding", "attention", "norm")
    ]
    assert sum(list(trace["x"]).count(None) for trace in drawn) == 4
    assert [row["parameter"] for row in MODEL if not is_weight(row)] == [
        "blocks.0.attn.bias",
        "logit_scale",
    ]


def test_violins_reach_over_all_but_the_outermost_entries_and_lines_over_all():
    figure = violins(MODEL[1:2])
    (outline,) = traces(figure, fill="toself")
    values = [value for value in outline["y"] if value is not None]
    assert (min(values), max(values)) == pytest.approx((-2.97, 2.97))
    whisker = figure.to_plotly_json()["data"][1]
    assert list(whisker["y"])[:2] == pytest.approx([-3, 3])


def test_a_violin_is_wide_where_entries_are_dense():
    # Half of the entries lie in the middle fifth of the range.
    peaked = [
        math.copysign(2 * abs(level / 500 - 1) ** 2, level - 500) for level in PER_MILLE
    ]
    row = layer(quantiles=peaked, deviation=0.8)
    (outline,) = traces(violins([row]), fill="toself")
    widths = {
        round(y, 3): abs(x)
        for x, y in zip(outline["x"], outline["y"], strict=True)
        if y is not None
    }
    middle = widths[min(widths, key=abs)]
    assert middle == max(widths.values()) == pytest.approx(0.42)
    assert middle > 2 * widths[min(widths, key=lambda y: abs(y - 1.5))]


def test_what_nobody_changed_is_a_line_across():
    row = layer(quantiles=[0.0] * len(PER_MILLE), deviation=0.0)
    (outline,) = traces(violins([row]), fill="toself")
    assert {y for y in outline["y"] if y is not None} == {0.0}


def test_layers_are_marked_where_they_begin():
    axis = violins(MODEL).to_dict()["layout"]["xaxis"]
    assert axis["tickvals"] == [1, 3]
    assert axis["ticktext"] == ["0", "1"]


def test_of_very_many_layers_some_depths_are_written_and_stacks_are_parted():
    rows = [
        layer(f"{stack}.{depth}.attn.weight", depth=depth, layers=40)
        for stack in ("encoder", "decoder")
        for depth in range(40)
    ]
    layout = violins(rows).to_dict()["layout"]
    assert len(layout["xaxis"]["tickvals"]) <= MOST_TICKS
    assert layout["xaxis"]["ticktext"][:2] == ["0", "4"]
    parted = [shape["x0"] for shape in layout["shapes"] if shape["x0"] == shape["x1"]]
    assert parted == [39.5]


def test_outliers_do_not_flatten_the_violins_of_all_others():
    far = [10 * NORMAL[0], *NORMAL[1:-1], 10 * NORMAL[-1]]
    plain, outlying = (
        violins([layer(quantiles=quantiles)]).to_dict()["layout"]["yaxis"]["range"]
        for quantiles in (NORMAL, far)
    )
    assert plain == outlying


def test_figures_side_by_side_have_one_scale_if_they_are_told_its_extent():
    extent = extent_of(MODEL)
    ranges = {
        tuple(violins(rows, extent).to_dict()["layout"]["yaxis"]["range"])
        for rows in (MODEL, MODEL[:2])
    }
    assert len(ranges) == 1


def conflict(size, density, conflicting, sample=0, **columns):
    return {
        "size": size,
        "sample": sample,
        "density": density,
        "conflicting": conflicting,
        "redundant": 0.1,
        "outvoted": 0.2,
        "subset": None,
    } | columns


def test_conflicts_of_several_samples_are_averaged_and_their_spread_is_drawn():
    rows = [
        conflict(2, 0.2, 0.1, 1),
        conflict(2, 0.2, 0.3, 2),
        conflict(4, 0.2, 0.5),
        conflict(2, 1.0, 0.8),
        conflict(4, 1.0, 0.9),
        conflict(4, 0.5, 0.7),  # for one number of experts alone
    ]
    untrimmed, trimmed = interference.conflicts_by_size(rows).data
    assert untrimmed.name == "untrimmed"
    assert trimmed.name == "20% kept"
    assert trimmed.x == (2, 4)
    assert trimmed.y == pytest.approx((20, 50))
    assert trimmed.error_y.array == pytest.approx((math.sqrt(200), 0))


def test_what_trimming_leaves_is_drawn_from_little_to_all():
    rows = [conflict(4, d, d / 2) for d in (1.0, 0.1)]
    rows.append(conflict(4, 0.01, 0.0, outvoted=None))
    drawn = {t.name: t for t in interference.conflicts_by_density(rows).data}
    assert drawn["entries with a sign conflict"].x == pytest.approx((1, 10, 100))
    assert len(drawn["kept entries that an election drops"].x) == 2


def magnitude(merging, level, mean, grouping="kept_by"):
    return {
        "density": 0.2,
        "grouping": grouping,
        "level": level,
        "merging": merging,
        "entries": 10,
        "mean": mean,
        "deviation": mean / 2,
    }


MAGNITUDES = [
    magnitude(merging, level, 1e-3 * (level + 1), grouping)
    for merging in MERGINGS
    for grouping, levels in (("kept_by", (0, 1, 2)), ("agreement", (0.5, 1.0)))
    for level in levels
]


@pytest.mark.parametrize("measure", interference.MEASURES)
def test_each_kind_of_merging_has_its_colour_in_every_figure(measure):
    for grouping in interference.GROUPINGS:
        figure = interference.magnitudes(MAGNITUDES, grouping, measure)
        assert [(t.line.color, t.marker.symbol) for t in figure.data] == [
            *MERGINGS.values()
        ]


def test_agreement_is_in_percent_and_magnitudes_in_a_power_of_ten():
    figure = interference.magnitudes(MAGNITUDES, "agreement", "mean")
    assert figure.data[0].x == pytest.approx((50, 100))
    assert figure.data[0].y == pytest.approx((1.5, 2))
    assert figure.to_dict()["layout"]["yaxis"]["title"]["text"].endswith(", 10⁻³")


def selecting(tasks, share, merge_by="task_arithmetic", density=1.0, threshold=0.4):
    return {
        "merge_by": merge_by,
        "density": density,
        "mask_threshold": threshold,
        "tasks": tasks,
        "name": "selfish",
        "share": share,
    }


def test_every_threshold_has_a_bar_for_each_number_of_tasks():
    rows = [selecting(n, 0.2, threshold=t) for t in (0.4, 1.0) for n in range(4)]
    figure = interference.agreement(rows, 0.2)
    assert [trace.name for trace in figure.data] == ["threshold 0.4", "threshold 1"]
    layout = figure.to_dict()["layout"]
    assert layout["xaxis"]["ticktext"] == ["none", "1", "2", "all"]
    assert layout["yaxis"]["range"] == pytest.approx([0, 21])


def test_profiles_are_parted_by_what_is_masked_at_one_density():
    rows = [
        selecting(0, 0.1, "ties", 0.1),
        selecting(0, 0.2, "ties", 0.2),
        selecting(0, 0.3),
    ]
    assert by_merged(rows) == [[rows[2]], [rows[1]]]
    assert at_one_density([]) == []


def share(task, threshold, of, *, normalized=None, is_chosen=False):
    return {
        "merge_by": "task_arithmetic",
        "density": 1.0,
        "mask_threshold": threshold,
        "task": task,
        "share": of,
        "normalized": normalized,
        "is_chosen": is_chosen,
    }


def test_masks_are_shown_at_each_tasks_best_threshold_or_at_the_loosest():
    rows = [
        share("a/1", 0.4, 0.5, normalized=0.8),
        share("a/1", 0.6, 0.3, normalized=0.9, is_chosen=True),
        share("b/2", 0.6, 0.2),
        share("b/2", 0.4, 0.4),
    ]
    shown = chosen_shares(rows)
    assert [row["share"] for row in shown] == [0.3, 0.4]
    baseline = {"method": "task_arithmetic", "task": "a/1", "normalized": 0.7}
    other = baseline | {"method": "ties"}
    bars, restored, merged = interference.mask_shares(shown, [baseline, other]).data
    assert bars.y == pytest.approx((30, 40))
    assert (restored.x, restored.y) == (("a/1",), pytest.approx((90,)))
    assert (merged.x, merged.y) == (("a/1",), pytest.approx((70,)))


def pruned(density, held_in, method="magnitude_pruning"):
    return {
        "method": method,
        "density": density,
        "held_in": held_in,
        "held_in_se": 0.01,
    }


def test_pruned_experts_are_drawn_between_experts_and_the_pretrained_model():
    rows = [pruned(0.1, 0.7), pruned(1.0, 0.9)]
    references = [
        {"method": "individual", "held_in": 0.9},
        {"method": "pretrained", "held_in": 0.5},
        {"method": "ties", "held_in": 0.6},
    ]
    figure = interference.redundancy(rows, references)
    assert figure.data[0].x == pytest.approx((10, 100))
    lines = [shape["y0"] for shape in figure.to_dict()["layout"]["shapes"]]
    assert lines == pytest.approx([90, 50])


def test_a_report_shows_what_was_looked_at_and_nothing_where_nothing_was(
    profiled, small, tmp_path
):
    ours = {"redundancy", "conflicts", "magnitudes", "agreement", "task_vectors"}
    for database, name, shown in (
        (profiled, "profiled", ours),
        (small, "small", set()),
    ):
        write_report(database, name, tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert set(re.findall(r'<section id="(\w+)">', text)) & ours == shown


EMPTY = {
    "violins": lambda: violins([]),
    "sizes": lambda: interference.conflicts_by_size([]),
    "densities": lambda: interference.conflicts_by_density([]),
    "magnitudes": lambda: interference.magnitudes([], "kept_by", "mean"),
    "agreement": lambda: interference.agreement([], 1.0),
    "shares": lambda: interference.mask_shares([], []),
    "redundancy": lambda: interference.redundancy([], []),
}


@pytest.mark.parametrize("name", EMPTY)
def test_without_rows_there_are_only_axes(name):
    assert EMPTY[name]().to_dict()["layout"]["height"] > 0


@pytest.mark.parametrize(
    ("largest", "power", "name"),
    [
        (0.0, 0, "size"),
        (5e-3, -3, "size, 10⁻³"),
        (9.9e-4, -6, "size, 10⁻⁶"),
        (250.0, 0, "size"),
        (1e3, 3, "size, 10³"),
    ],
)
def test_small_numbers_have_their_power_of_ten_in_the_axis_name(largest, power, name):
    assert power_of(largest) == power
    assert axis_name("size", power) == name
