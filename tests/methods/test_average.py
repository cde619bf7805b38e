import pytest
import torch

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


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 2.0, 3.0), (0.0, 0.0)])
def test_weights_that_do_not_fit_the_experts_are_refused(weights):
    with pytest.raises(InputError, match="weights"):
        average(torch.randn(2, 3), weights=weights)
