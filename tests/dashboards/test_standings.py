import pytest

from dashboards import standings


def test_differences_are_against_the_best(ask):
    figure = standings.behind_best(ask("paired"), "held_in")
    points = [(trace.y[0], pytest.approx(trace.x[0])) for trace in figure.data]
    assert points == [("TIES", -6), ("Fisher", -7), ("Average", -10)]


def points(figure, row):
    return {
        (trace.x[0], trace.marker.symbol.endswith("-open"), trace.error_x.array[0])
        for trace in figure.data
        if trace.y == (row,) and trace.x != (None,)
    }


def test_held_in_points_are_full_and_generalization_points_hollow(ask):
    (ties,) = (row for row in ask("leaderboard") if row["method"] == "ties")
    assert points(standings.ranking(ask("leaderboard")), "TIES") == {
        (100 * ties[role], is_hollow, 100 * ties[f"{role}_se"])
        for role, is_hollow in (("held_in", False), ("generalization", True))
    }


def test_merges_come_in_order_and_above_the_models_for_reference(ask):
    figure = standings.ranking(ask("leaderboard"))
    order = figure.to_dict()["layout"]["yaxis"]["categoryarray"][::-1]
    assert list(order) == [
        "RegMean",
        "TIES",
        "Fisher",
        "Average",
        "Individual experts",
        "Multitask",
        "Pretrained",
    ]


def test_what_has_no_score_is_left_out(ask):
    rows = [row | {"held_in": None} for row in ask("leaderboard")]
    assert not [trace for trace in standings.ranking(rows).data if trace.x != (None,)]


def test_a_cell_is_drawn_beside_what_it_came_from(ask):
    rows = [
        row
        for row in ask("cell_scores", cell="average-0-{}")
        if row["role"] == "held_in" and row["split"] == "test"
    ]
    pretrained, individual, own = standings.by_task(rows, "average").data
    assert own.y == pretrained.y == individual.y == ("a/1", "b/2", "c/3")
    assert own.x == pytest.approx((60, 61, 62))
    assert pretrained.x == pytest.approx((50, 51, 52))
    assert individual.x == pytest.approx((90, 90, 90))
