"""SLERP and MLERP against their definitions on the flat vector of the whole model."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid import merge
from mergegrid.errors import InputError
from mergegrid.methods.needs import Need

seeds = st.integers(0, 2**32 - 1)
SHAPES = {"a": (3, 2), "b": (4,)}


def models(seed, number=2, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            name: scale * torch.randn(shape, generator=generator)
            for name, shape in SHAPES.items()
        }
        for _ in range(number)
    ]


def flat(model):
    return np.concatenate([model[name].double().numpy().ravel() for name in "ab"])


def reference(first, second, t, variant):
    lengths = np.linalg.norm(first), np.linalg.norm(second)
    units = first / lengths[0], second / lengths[1]
    omega = np.arccos(units[0] @ units[1])
    ends = units if variant == "unit" else (first, second)
    norm = (1 - t) * lengths[0] + t * lengths[1] if variant == "unit" else 1
    arc = np.sin((1 - t) * omega) * ends[0] + np.sin(t * omega) * ends[1]
    return norm * arc / np.sin(omega)


@given(seed=seeds, t=st.floats(0, 1), variant=st.sampled_from(["raw", "unit"]))
def test_slerp_is_the_arc_between_the_whole_models(seed, t, variant):
    one, other = models(seed)
    recipe = {"method": "slerp", "options": {"t": t, "variant": variant}}
    np.testing.assert_allclose(
        flat(merge([one, other], recipe)),
        reference(flat(one), flat(other), t, variant),
        rtol=1e-4,
        atol=1e-5,
    )


@given(seed=seeds)
def test_half_way_raw_slerp_is_the_sum_over_twice_the_cosine_of_half_the_angle(seed):
    one, other = models(seed)
    a, b = flat(one), flat(other)
    omega = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    expected = (a + b) / (2 * np.cos(omega / 2))
    np.testing.assert_allclose(
        flat(merge([one, other], "slerp")), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("variant", ["raw", "unit"])
@pytest.mark.parametrize("t", [0, 1])
def test_slerp_ends_at_the_experts(t, variant):
    pair = models(seed=1)
    recipe = {"method": "slerp", "options": {"t": t, "variant": variant}}
    merged = merge(pair, recipe)
    for name in SHAPES:
        torch.testing.assert_close(merged[name], pair[t][name], rtol=1e-6, atol=0)


def test_slerp_is_straight_up_to_a_cosine_of_9995():
    one = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for cosine, length in ((0.9996, np.sqrt((1 + 0.9996) / 2)), (0.9994, 1.0)):
        other = torch.tensor([cosine, np.sqrt(1 - cosine**2)], dtype=torch.float64)
        merged = merge([{"a": one}, {"a": other}], "slerp")["a"]
        assert float(merged.norm()) == pytest.approx(length, rel=1e-6)


@pytest.mark.parametrize("number", [1, 3])
def test_slerp_takes_two_experts(number):
    with pytest.raises(InputError, match=f"exactly 2 experts, not {number}.*mlerp"):
        merge(models(seed=0, number=number), "slerp")


@given(seed=seeds, number=st.integers(1, 5))
def test_mlerp_is_the_mean_at_the_largest_norm(seed, number):
    experts = models(seed, number)
    mean = np.mean([flat(expert) for expert in experts], axis=0)
    largest = max(np.linalg.norm(flat(expert)) for expert in experts)
    merged = flat(merge(experts, "mlerp"))
    expected = mean * largest / np.linalg.norm(mean)
    np.testing.assert_allclose(merged, expected, rtol=1e-4, atol=1e-5)


@given(seed=seeds)
def test_mlerp_of_two_experts_of_equal_norm_is_slerp_half_way(seed):
    pair = models(seed)
    for model in pair:
        norm = float(np.linalg.norm(flat(model)))
        for tensor in model.values():
            tensor.div_(norm)
    np.testing.assert_allclose(
        flat(merge(pair, "mlerp")), flat(merge(pair, "slerp")), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("method", ["slerp", "mlerp"])
def test_norms_that_were_measured_before_are_used(method):
    pair = models(seed=4)
    norms = [
        {name: float(tensor.double().square().sum()) for name, tensor in model.items()}
        for model in pair
    ]
    given_norms = {Need.NORMS: dict(zip("01", norms, strict=True))}
    merged = merge(pair, method, statistics=given_norms)
    torch.testing.assert_close(merged, merge(pair, method))
    wrong = {Need.NORMS: {"0": dict.fromkeys("ab", 9.0), "1": norms[1]}}
    with pytest.raises(AssertionError):
        torch.testing.assert_close(merge(pair, method, statistics=wrong), merged)
