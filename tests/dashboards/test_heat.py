import pytest

from dashboards import heat


def cell(figure, method, task):
    (drawn,) = figure.data
    return drawn.z[drawn.y.index(task)][drawn.x.index(method)]


def test_a_cell_is_the_accuracy_on_its_task(ask):
    figure = heat.accuracy_by_task(ask("tasks"))
    assert cell(figure, "TIES", "b/2") == pytest.approx(65)
    assert cell(figure, "RegMean", "c/2") == pytest.approx(64)


def test_gains_are_over_the_pretrained_model(ask):
    figure = heat.accuracy_by_task(ask("tasks"), gains=True)
    assert cell(figure, "TIES", "b/2") == pytest.approx(65 - 51)
    assert "Pretrained" not in figure.data[0].x


def test_less_and_more_have_the_same_range_of_colours(ask):
    (drawn,) = heat.accuracy_by_task(ask("tasks"), gains=True).data
    assert drawn.zmin == -drawn.zmax


def test_numbers_are_written_where_there_is_room(ask):
    row = ask("tasks")[0]
    few, many = (
        heat.accuracy_by_task([row | {"method": f"m{i}"} for i in range(count)])
        for count in (3, heat.MOST_WRITTEN + 1)
    )
    assert few.data[0].texttemplate == "%{text}"
    assert many.data[0].texttemplate is None


def test_without_rows_there_is_an_empty_map():
    assert heat.kept_accuracy([]).to_dict()["layout"]["height"] > 0
    assert heat.accuracy_by_task([]).to_dict()["layout"]["height"] > 0
