"""Fisher merging against its formula, entry by entry."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid import merge
from mergegrid.errors import InputError
from mergegrid.methods.needs import Need

seeds = st.integers(0, 2**32 - 1)
SHAPES = {"a": (2, 3), "b": (4,)}


def problem(seed=0, number=3):
    generator = torch.Generator().manual_seed(seed)

    def model():
        return {
            name: torch.randn(shape, generator=generator)
            for name, shape in SHAPES.items()
        }

    experts = {f"expert {index}": model() for index in range(number)}
    information = {
        expert: {name: tensor**2 for name, tensor in model().items()}
        for expert in experts
    }
    return experts, information


def merged_by(experts, information, **options):
    recipe = {"method": "fisher", "options": options}
    return merge(experts, recipe, statistics={Need.FISHER: information})


def reference(experts, information, floor, normalize, coefficients):
    norms = {
        expert: math.sqrt(
            sum(float(x) ** 2 for tensor in tensors.values() for x in tensor.flatten())
        )
        for expert, tensors in information.items()
    }
    merged = {name: torch.zeros(shape).double() for name, shape in SHAPES.items()}
    for name, shape in SHAPES.items():
        for place in itertools.product(*map(range, shape)):
            above = below = 0.0
            for expert, share in zip(experts, coefficients, strict=True):
                weight = float(information[expert][name][place])
                weight = weight / norms[expert] if normalize else weight
                weight = share * max(weight, floor)
                above += weight * float(experts[expert][name][place])
                below += weight
            merged[name][place] = above / below
    return merged


@given(
    seed=seeds,
    floor=st.sampled_from([0.0, 1e-6, 0.3]),
    normalize=st.booleans(),
    coefficients=st.sampled_from([(1.0, 1.0, 1.0), (0.2, 3.0, 0.5)]),
)
def test_is_the_fisher_weighted_average(seed, floor, normalize, coefficients):
    experts, information = problem(seed)
    options = {"floor": floor, "normalize": normalize, "coefficients": coefficients}
    merged = merged_by(experts, information, **options)
    expected = reference(experts, information, **options)
    for name in SHAPES:
        torch.testing.assert_close(
            merged[name].double(), expected[name], rtol=1e-5, atol=1e-6
        )


@given(seed=seeds)
def test_constant_information_is_the_average(seed):
    experts, _ = problem(seed)
    constant = {
        expert: {name: torch.full(shape, 3.0) for name, shape in SHAPES.items()}
        for expert in experts
    }
    torch.testing.assert_close(merged_by(experts, constant), merge(experts, "average"))


@given(seed=seeds, exponent=st.integers(-40, 30))
def test_every_entry_is_between_the_experts_however_small_the_information(
    seed, exponent
):
    experts, information = problem(seed)
    scaled = {
        expert: {name: tensor * 10.0**exponent for name, tensor in tensors.items()}
        for expert, tensors in information.items()
    }
    merged = merged_by(experts, scaled)
    for name in SHAPES:
        every = torch.stack([expert[name] for expert in experts.values()])
        assert (merged[name] <= every.amax(dim=0) + 1e-6).all()
        assert (merged[name] >= every.amin(dim=0) - 1e-6).all()


def test_entries_without_information_are_averaged_by_the_coefficients():
    experts, information = problem(number=2)
    for tensors in information.values():
        tensors["a"].zero_()
    merged = merged_by(experts, information, coefficients=(1, 0))
    torch.testing.assert_close(merged["a"], experts["expert 0"]["a"])


def test_a_parameter_that_lacks_information_in_one_expert_is_averaged():
    experts, information = problem()
    del information["expert 1"]["a"]
    merged = merged_by(experts, information)
    average = merge(experts, "average")
    torch.testing.assert_close(merged["a"], average["a"])
    assert not torch.isclose(merged["b"], average["b"]).any()


def test_an_expert_with_all_the_information_prevails():
    experts, information = problem()
    for expert in ("expert 0", "expert 2"):
        for tensor in information[expert].values():
            tensor.zero_()
    torch.testing.assert_close(merged_by(experts, information), experts["expert 1"])


def test_normalized_information_does_not_depend_on_its_scale_in_one_expert():
    experts, information = problem()
    merged = merged_by(experts, information, normalize=True)
    for tensor in information["expert 1"].values():
        tensor.mul_(100)
    torch.testing.assert_close(merged_by(experts, information, normalize=True), merged)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(merged_by(experts, information), merged)


def test_normalizing_no_information_at_all_is_the_average():
    experts, information = problem()
    for tensors in information.values():
        for tensor in tensors.values():
            tensor.zero_()
    merged = merged_by(experts, information, normalize=True)
    torch.testing.assert_close(merged, merge(experts, "average"))


def test_normalizing_leaves_an_expert_without_information_out():
    experts, information = problem()
    for tensor in information["expert 1"].values():
        tensor.zero_()
    merged = merged_by(experts, information, normalize=True)
    del experts["expert 1"]
    expected = merged_by(experts, information, normalize=True)
    torch.testing.assert_close(merged, expected)


def test_coefficients_that_do_not_fit_the_experts_are_refused():
    experts, information = problem()
    with pytest.raises(InputError, match="3 experts, but 2 values of "):
        merged_by(experts, information, coefficients=(1, 2))
