"""Examples in memory and laid end to end."""

import pytest
import torch

from mergegrid.suites.examples import Concatenation, TensorExamples


def numbered(start, count):
    return TensorExamples({"label": torch.arange(start, start + count)})


def parts():
    return Concatenation([numbered(0, 3), numbered(3, 0), numbered(3, 4)])


@pytest.mark.parametrize(
    "asked", [slice(None), slice(2, 5), slice(5, 99), slice(4, 4), slice(0, 7, 3)]
)
def test_a_slice_of_a_concatenation_runs_across_its_parts(asked):
    assert parts()[asked]["label"].tolist() == list(range(7))[asked]


def test_indices_are_answered_in_the_order_asked_for_and_as_often():
    asked = torch.tensor([6, 0, 3, 0, 2])
    assert parts()[asked]["label"].tolist() == asked.tolist()


def test_a_concatenation_is_as_long_as_its_parts_together():
    assert len(parts()) == 7


def test_inputs_with_different_numbers_of_examples_are_refused():
    with pytest.raises(ValueError, match=r"'image': 2.*'label': 3"):
        TensorExamples({"image": torch.zeros(2), "label": torch.zeros(3)})


def test_nothing_cannot_be_concatenated():
    with pytest.raises(ValueError, match="nothing"):
        Concatenation([])


def test_inputs_that_not_all_examples_have_are_left_out():
    chosen = TensorExamples(
        {"label": torch.tensor([7]), "choice": torch.tensor([[7, 8]])}
    )
    parts = Concatenation([numbered(0, 2), chosen])
    assert {name: t.tolist() for name, t in parts[:].items()} == {"label": [0, 1, 7]}
    assert parts[2:]["choice"].tolist() == [[7, 8]]
