"""Faults of other tools in SLERP and its kin; each test is named after one.

They were seen in mergekit, which merges tensor by tensor, and in git-theta.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch

from mergegrid import merge
from mergegrid.methods.slerp import dot_product


def slerped(first, second, method="slerp", **options):
    experts = [{"w": torch.tensor(first)}, {"w": torch.tensor(second)}]
    return merge(experts, {"method": method, "options": options})["w"].tolist()


def test_slerp_of_antipodal_experts_divides_by_zero():
    assert slerped([1.0, 0.0], [-1.0, 0.0]) == [0.0, 0.0]
    assert slerped([1.0, 0.0], [-1.0, 0.0], t=0.25) == pytest.approx([0.5, 0.0])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0.0, 0.0], [2.0, 0.0], [1.0, 0.0]),  # zero has no direction
        ([1.0, 0.0], [3.0, 0.0], [2.0, 0.0]),  # parallel
        ([1.0, 0.0], [1.0, 1e-3], [1.0, 5e-4]),  # nearly parallel
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
    ],
)
@pytest.mark.parametrize("variant", ["raw", "unit"])
def test_slerp_without_an_angle_divides_by_zero(first, second, expected, variant):
    found = slerped(first, second, variant=variant)
    assert found == pytest.approx(expected, rel=1e-5)


def test_angle_between_models_taken_in_float32():
    # Of models that are nearly one, 1 - cosine is lost in the rounding of its sum.
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(1001, generator=generator) + 10
    other = one + 1e-3 * torch.randn(1001, generator=generator)
    pairs = zip(one.tolist(), other.tolist(), strict=True)
    exact = float(sum(Fraction(a) * Fraction(b) for a, b in pairs))
    found = dot_product(torch.stack([one, other]))
    assert found.item() == pytest.approx(exact, rel=1e-15)
    assert float(one @ other) != pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("method", ["slerp", "mlerp"])
def test_spherical_merge_of_each_tensor_instead_of_the_model(method):
    generator = torch.Generator().manual_seed(0)
    experts = [
        {name: torch.randn(4, generator=generator) for name in "ab"} for _ in range(2)
    ]
    flat = [np.concatenate([e[n].double().numpy() for n in "ab"]) for e in experts]
    norms = [np.linalg.norm(vector) for vector in flat]
    mean = (flat[0] + flat[1]) / 2
    cosine = flat[0] @ flat[1] / norms[0] / norms[1]
    factor = {
        "slerp": 1 / np.cos(np.arccos(cosine) / 2),
        "mlerp": max(norms) / np.linalg.norm(mean),
    }[method]
    found = merge(experts, method)
    whole = np.concatenate([found[name].double().numpy() for name in "ab"])
    np.testing.assert_allclose(whole, factor * mean, rtol=1e-5)
    by_tensor = merge(experts, {"method": method, "options": {"scope": "tensor"}})
    assert not torch.allclose(by_tensor["a"], found["a"], rtol=1e-3)


def test_angle_counts_parameters_that_nobody_changed():
    # A frozen tower in the same file would make any two experts nearly parallel.
    frozen = torch.full((1000,), 5.0)
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    alone = merge([{"w": first}, {"w": second}], "slerp")["w"]
    found = merge([{"w": first, "f": frozen}, {"w": second, "f": frozen}], "slerp")
    assert torch.equal(found["f"], frozen)
    torch.testing.assert_close(found["w"], alone)


def test_mlerp_of_experts_that_cancel_divides_by_zero():
    assert slerped([1.0, -2.0], [-1.0, 2.0], "mlerp") == [0.0, 0.0]
