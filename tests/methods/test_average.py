import pytest
import torch

from mergegrid import merge, sweep
from mergegrid.errors import InputError
from mergegrid.methods.average import average


def test_is_the_mean():
    assert average(torch.tensor([[1.0, 2.0], [3.0, 6.0]])).tolist() == [2.0, 4.0]


def test_only_the_ratios_of_weights_matter():
    experts = torch.tensor([[1.0, 2.0], [5.0, 6.0]])
    assert average(experts, weights=(3.0, 1.0)).tolist() == [2.0, 3.0]
    assert average(experts, weights=(0.75, 0.25)).tolist() == [2.0, 3.0]


def test_a_single_expert_is_returned_whatever_its_weight():
    expert = torch.randn(1, 3)
    assert torch.equal(average(expert, weights=(0.2,)), expert[0])


def test_weights_may_be_negative():
    experts = torch.tensor([[1.0, 2.0], [5.0, 6.0]])
    assert average(experts, weights=(3.0, -1.0)).tolist() == [-1.0, 0.0]
    assert average(experts, weights=(-3.0, 1.0)).tolist() == [-1.0, 0.0]


def test_without_normalizing_it_is_the_sum_that_the_weights_make():
    experts = torch.tensor([[1.0, 2.0], [5.0, 6.0]])
    options = {"normalize": False}
    assert average(experts, weights=(3.0, -1.0), **options).tolist() == [-2.0, 0.0]
    assert average(experts, weights=(1.0, -1.0), **options).tolist() == [-4.0, -4.0]
    assert average(experts, **options).tolist() == [6.0, 8.0]


@pytest.mark.parametrize(("weights", "factor"), [(None, 2.0), ((0.5, 0.2), 0.7)])
def test_what_is_the_same_in_every_expert_is_not_copied_into_a_sum(weights, factor):
    expert = {"a": torch.tensor([1.0, 2.0])}
    options = {"normalize": False, "weights": weights}
    recipe = {"method": "average", "options": options}
    merged = merge([expert, expert], recipe)["a"]
    torch.testing.assert_close(merged, factor * expert["a"])
    mean = merge([expert, expert], {"method": "average", "options": {}})["a"]
    assert torch.equal(mean, expert["a"])


def test_nested_subsets_of_a_sum_are_their_own():
    experts = {name: {"a": torch.full((2,), float(ord(name)))} for name in "xyz"}
    recipe = {"method": "average", "options": {"normalize": False}}
    subsets = [("x", "y"), ("x", "y", "z")]
    for made in sweep(experts, [recipe, recipe], subsets=subsets):
        assert made.parameters["a"].tolist() == [sum(map(ord, made.experts))] * 2


@pytest.mark.parametrize(
    "weights", [(1.0,), (1.0, 2.0, 3.0), (0.0, 0.0), (0.5, -0.5), (0.1, -0.1 + 1e-12)]
)
def test_weights_that_do_not_fit_the_experts_are_refused(weights):
    with pytest.raises(InputError, match="weights"):
        average(torch.randn(2, 3), weights=weights)
