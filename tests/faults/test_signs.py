"""Faults of other tools in electing signs; each test is named after one.

They were seen in the authors' code of TIES, in SuperMerge's description of it, and in
tools that offer TIES' sum where the paper has the mean.
"""

import itertools

import pytest
import torch

from mergegrid import merge


def merged(*task_vectors, method="ties", **options):
    """Merge task vectors on a pretrained model of zeros."""
    pretrained = {"w": torch.zeros(len(task_vectors[0]))}
    experts = [{"w": torch.tensor(vector)} for vector in task_vectors]
    if method == "ties":
        options = {"density": 1.0, **options}
    return merge(experts, {"method": method, "options": options}, pretrained)["w"]


def test_undecided_majority_elects_the_negative_sign():
    assert merged([2.0], [-2.0]).tolist() == [2.0]


def test_entries_that_cancel_dropped_without_being_asked():
    # Where they cancel the model's majority decides, which is minus here.
    assert merged([2.0, -1.0], [-2.0, -1.0]).tolist() == [-2.0, -1.0]
    assert merged([2.0, -1.0], [-2.0, -1.0], zero_sum="strict").tolist() == [0, -1]


def test_majority_of_each_tensor_instead_of_the_model():
    pretrained = {"a": torch.zeros(2), "b": torch.zeros(3)}
    experts = [
        {"a": torch.tensor([sign * 2.0, -1.0]), "b": torch.ones(3)} for sign in (1, -1)
    ]
    for zero_sum, expected in (("majority", 2.0), ("tensor_majority", -2.0)):
        options = {"density": 1, "zero_sum": zero_sum}
        found = merge(experts, {"method": "ties", "options": options}, pretrained)
        assert found["a"].tolist() == [expected, -1.0]


def test_trimmed_entries_counted_in_the_mean():
    assert merged([4.0, 1.0], [2.0, 9.0], density=0.5).tolist() == [4.0, 9.0]


def test_experts_that_disagree_counted_in_the_mean():
    assert merged([3.0], [1.0], [-2.0]).tolist() == [2.0]


def test_sum_of_what_agrees_taken_for_its_mean():
    assert merged([3.0], [1.0]).tolist() == [2.0]
    assert merged([3.0], [1.0], aggregate="sum").tolist() == [4.0]


def test_signs_elected_by_number_instead_of_mass():
    assert merged([3.0], [-1.0], [-1.0]).tolist() == [3.0]


def test_signs_elected_by_average_magnitude_instead_of_mass():
    assert merged([2.0], [2.0], [-3.0]).tolist() == [2.0]


def test_signs_of_a_zero_sum_decided_by_rounding_in_the_order_of_experts():
    # In float32, 0.1 + 0.2 - 0.3 is zero in one order and -7e-9 in another.
    values = [[0.1, 1.0], [0.2, 1.0], [-0.3, 1.0]]
    for order in itertools.permutations(values):
        assert merged(*order).tolist() == pytest.approx([-0.3, 1.0])


@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.0, 0.0)])
def test_weights_of_what_agrees_that_cancel_divide_by_zero(weights):
    found = merged([3.0], [-1.0], weights=weights)
    assert found.tolist() == [3.0 * weights[0] + 1.0 * weights[0]]


def test_weights_left_out_of_the_election():
    assert merged([3.0], [-2.0], weights=(0.5, 1.0)).tolist() == [-2.0]


@pytest.mark.parametrize("method", ["consensus", "tall_masks"])
def test_masks_of_ties_made_from_a_mean_or_from_everything(method):
    # A fifth of 20 entries, untold: 4 of each expert are kept and added up.
    experts = {name: {"w": torch.arange(1.0, 21.0)} for name in "ab"}
    pretrained = {"w": torch.zeros(20)}
    options = {"merge_by": "ties", "mask_threshold": 0.0, "scale": 1.0}
    task = "a" if method == "tall_masks" else None
    recipe = {"method": method, "options": options}
    found = merge(experts, recipe, pretrained, task=task)["w"]
    assert found.tolist() == [0.0] * 16 + [34.0, 36.0, 38.0, 40.0]
