import pytest

from dashboards import bills


def test_stages_of_a_bar_add_up_to_the_leaderboard(ask):
    board = {row["method"]: row for row in ask("leaderboard")}
    figure = bills.stages(ask("stages"), ["regmean"])
    total = sum(trace.x[0] for trace in figure.data)
    assert total == pytest.approx(board["regmean"]["amortized_seconds"])


def test_a_prerequisite_is_shared_out_completely(ask):
    figure = bills.sharing(ask("sharing"))
    shares = {}
    for trace in figure.data:
        for stage, share in zip(trace.y, trace.x, strict=True):
            shares[stage] = shares.get(stage, 0) + share
    assert shares == {
        "pretrain, 40 s": pytest.approx(100),
        "gram, 2 s": pytest.approx(100),
    }


def test_only_those_who_need_a_prerequisite_pay_for_it(ask):
    figure = bills.sharing(ask("sharing"))
    payers = {
        stage: {trace.text[0] for trace in figure.data if stage in trace.y}
        for stage in ("pretrain, 40 s", "gram, 2 s")
    }
    assert payers["gram, 2 s"] == {"RegMean"}
    assert len(payers["pretrain, 40 s"]) > 1


def test_operations_have_a_tick_a_decade_but_no_more_than_fit(ask):
    row = ask("costs")[0]
    rows = [row | {"total_flops": 10.0**power} for power in (3, 9, 18)]
    axis = bills.cost_against_accuracy(rows, "held_in").to_dict()["layout"]["xaxis"]
    assert 3 <= len(axis["tickvals"]) <= 8
    assert axis["ticktext"][0] == "1 k"
