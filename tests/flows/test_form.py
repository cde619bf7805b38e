from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.form import (
    ALL_TOGETHER,
    AT_FIRST,
    CHOSEN_AT_FIRST,
    MethodsForm,
    SubsetsForm,
    experiment_from_form,
)
from mergegrid.errors import InputError
from mergegrid.experiment import load_experiment, parse_experiment
from mergegrid.grid import expand
from mergegrid.methods import METHODS


def filled_in(methods, subsets=ALL_TOGETHER, seeds=(0,)):
    return experiment_from_form(
        name="mine",
        suite="glyphs",
        methods=MethodsForm.model_validate(methods),
        subsets=subsets,
        seeds=list(seeds),
    )


def options(experiment):
    return [dict(cell.options) for cell in expand(experiment)]


def cells_of(experiment, method):
    return [cell for cell in expand(experiment) if cell.method == method]


@pytest.mark.parametrize("name", METHODS)
def test_a_section_left_as_it_is_sweeps_as_the_paper_does(name):
    written = {each: {} for each in (name, "task_arithmetic", "tall_masks")}
    subsets = SubsetsForm(kind="nested", sizes=[2])
    form = filled_in(written, subsets)
    block = {"methods": list(written), "subsets": subsets.written()}
    file = parse_experiment(
        form.model_dump(mode="json") | {"grid": [block]}, source="file"
    )
    assert cells_of(form, name) == cells_of(file, name) != []


def test_a_new_form_has_a_few_methods_with_their_sweeps():
    experiment = experiment_from_form(
        name="mine", suite="glyphs", methods=AT_FIRST, subsets=ALL_TOGETHER, seeds=[0]
    )
    assert {cell.method for cell in expand(experiment)} == set(CHOSEN_AT_FIRST)


def test_values_are_read_as_an_experiment_file_has_them():
    cells = options(
        filled_in(
            {
                "task_arithmetic": {"scale": ["0.5", "1/M"]},
                "ties": {"density": ["0.3"], "scale": ["1"], "scope": ["tensor"]},
            }
        )
    )
    assert [cell["scale"] for cell in cells] == [0.5, 1 / 12, 1]
    assert (cells[2]["density"], cells[2]["scope"]) == (0.3, "tensor")


def test_an_option_may_be_a_list_with_a_value_for_each_expert():
    weights = [0.5] * 6 + [1.0] * 6
    (cell,) = options(filled_in({"average": {"weights": [str(weights)]}}))
    assert list(cell["weights"]) == weights


def test_training_and_statistics_are_those_of_the_suites_own_experiment():
    own = load_experiment("configs/experiments/glyphs.yaml")
    mine = filled_in({"average": {}})
    assert (mine.training, mine.statistics) == (own.training, own.statistics)


def test_subsets_are_nested_or_given():
    nested = SubsetsForm(kind="nested", sizes=[2, 3], samples=2, order_seed=5)
    sizes = [len(c.experts) for c in expand(filled_in({"average": {}}, nested))]
    assert sorted(sizes) == [2, 2, 3, 3]
    names = sorted({e for c in expand(filled_in({"average": {}})) for e in c.experts})
    given = SubsetsForm(kind="given", given=[names[:2]])
    (cell,) = expand(filled_in({"average": {}}, given))
    assert sorted(cell.experts) == names[:2]


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"tiies": {}}, "tiies"),
        ({"ties": {"scope": ["everything"]}}, "scope"),
        ({"regmean": {"off_diagonal": [1.5]}}, "off_diagonal"),
    ],
)
def test_the_form_itself_refuses_what_is_not_possible(sections, field):
    with pytest.raises(ValidationError, match=field):
        filled_in(sections)


def test_what_the_form_cannot_see_is_refused_by_the_fields_name():
    with pytest.raises(InputError, match="switched on"):
        filled_in(dict.fromkeys(METHODS))
    with pytest.raises(InputError, match="scale = 'much'"):
        expand(filled_in({"task_arithmetic": {"scale": ["much"]}}))
    with pytest.raises(InputError, match=r"methods\.task_arithmetic\.scale: '\[1' is"):
        filled_in({"task_arithmetic": {"scale": ["[1"]}})


def test_a_file_may_be_a_path_or_a_url(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text(Path("configs/experiments/glyphs.yaml").read_text())
    assert load_experiment(str(path)) == load_experiment(path.as_uri())
    with pytest.raises(InputError, match=r"Cannot read .*none\.yaml"):
        load_experiment(str(tmp_path / "none.yaml"))
