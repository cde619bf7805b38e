"""Figures about storage, from rows whose numbers are known."""

import pytest

from dashboards.stored import MEASURES, storage_against_accuracy, storage_by_size


def row(method, share, kept, kind="per_task", **columns):
    return {
        "method": method,
        "options": "",
        "kind": kind,
        "is_chosen": True,
        "on_front": False,
        "normalized": kept,
        "bytes": 1e6 * share,
        "bytes_of_experts": share,
        "bits_of_experts": 1.1 * share,
        **columns,
    }


ROWS = [
    row("pretrained", 0.1, 0.6, "reference"),
    row("average", 0.1, 0.7, "merged"),
    row("ties", 0.1, 0.75, "merged", on_front=True),
    row("tall_masks", 0.18, 0.9, is_chosen=False, options="mask_threshold 0.2"),
    row("tall_masks", 0.2, 0.98, options="mask_threshold 0.4", on_front=True),
    row("emr", 0.21, 0.95),
    row("individual", 1.0, 1.0, "reference", on_front=True),
]


def named(figure):
    return {note["text"] for note in figure.to_dict()["layout"]["annotations"]}


@pytest.mark.parametrize("column", MEASURES)
def test_every_point_is_at_its_share_of_the_experts_storage(column):
    figure = storage_against_accuracy(ROWS, column)
    points = {
        (round(x, 6), round(y, 6))
        for trace in figure.to_dict()["data"]
        if trace["mode"] == "markers"
        for x, y in zip(trace["x"], trace["y"], strict=True)
    }
    assert points == {
        (round(100 * each[column], 6), round(100 * each["normalized"], 6))
        for each in ROWS
        if each["is_chosen"]
    }
    assert figure.to_dict()["layout"]["xaxis"]["type"] == "log"


def test_what_validation_did_not_choose_is_joined_to_what_it_did():
    figure = storage_against_accuracy(ROWS, "bytes_of_experts")
    (line,) = (t for t in figure.to_dict()["data"] if t["mode"] == "lines+markers")
    assert list(line["x"]) == [18, 20]
    assert "TALL-masks" in line["hovertemplate"]


def test_of_merges_into_one_model_the_best_alone_is_named():
    figure = storage_against_accuracy(ROWS, "bytes_of_experts")
    expected = {"Pretrained", "TIES", "TALL-masks", "EMR-merging", "Individual experts"}
    assert named(figure) == expected


def test_the_front_goes_from_the_smallest_to_the_experts():
    front = storage_against_accuracy(ROWS, "bytes_of_experts").to_dict()["data"][1]
    assert front["mode"] == "lines"
    assert list(front["x"]) == [10, 20, 100]


def test_merges_are_filled_and_what_nothing_was_merged_for_is_hollow():
    figure = storage_against_accuracy(ROWS, "bytes_of_experts")
    fills = {
        trace["hovertemplate"].rpartition("<extra>")[2]: trace["marker"]["color"]
        for trace in figure.to_dict()["data"]
        if trace["mode"] == "markers"
    }
    hollow = {name for name, fill in fills.items() if fill == "white"}
    assert hollow == {"Pretrained</extra>", "Individual experts</extra>"}


def test_growth_is_solid_as_stored_and_dotted_by_the_formula():
    rows = [
        {"method": method, "size": size, "bytes": 1e6 * size, "paper_bytes": 2e6 * size}
        for method in ("individual", "pretrained")
        for size in (2, 4)
    ]
    figure = storage_by_size(rows)
    drawn = [(t["line"]["dash"], list(t["y"])) for t in figure.to_dict()["data"]]
    assert drawn == 2 * [("dot", [4, 8]), ("solid", [2, 4])]
    assert named(figure) == {"Individual experts", "one model"}


def test_without_rows_there_are_only_axes():
    assert not storage_against_accuracy([], "bytes_of_experts").data
    assert not storage_by_size([]).data
