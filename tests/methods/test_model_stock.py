"""Model Stock against its formula and its geometry."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.methods.model_stock import METHOD, dot_products, model_stock, ratio

seeds = st.integers(0, 2**32 - 1)


def problem(seed, shape=(4, 6), experts=3, common=1.0):
    generator = torch.Generator().manual_seed(seed)
    shared = common * torch.randn(shape, generator=generator)
    return shared + torch.randn(experts, *shape, generator=generator)


def merged_by(task_vectors):
    return model_stock(task_vectors, dot_products(task_vectors))


def by_hand(task_vectors, *, clamp=True):
    vectors = [vector.double().numpy().ravel() for vector in task_vectors]
    experts = len(vectors)
    mean = sum(vectors) / experts
    if experts == 1:
        return mean
    cosines = []
    for one, other in itertools.combinations(vectors, 2):
        lengths = np.linalg.norm(one) * np.linalg.norm(other)
        cosines.append(one @ other / lengths if lengths else 0.0)
    cosine = np.mean(cosines)
    if clamp and cosine < 0:
        return 0 * mean
    return experts * cosine / (1 + (experts - 1) * cosine) * mean


@given(
    seed=seeds,
    shape=st.sampled_from([(), (1,), (7,), (4, 6), (2, 3, 4), (0,), (0, 3)]),
    experts=st.integers(1, 6),
    common=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_is_the_mean_by_the_ratio_of_the_mean_cosine(seed, shape, experts, common):
    task_vectors = problem(seed, shape, experts, common)
    merged = merged_by(task_vectors)
    assert merged.dtype == task_vectors.dtype
    assert merged.shape == shape
    np.testing.assert_allclose(
        merged.double().numpy().ravel(), by_hand(task_vectors), rtol=1e-6, atol=1e-6
    )


@given(seed=seeds, experts=st.integers(2, 6))
def test_copies_of_one_expert_are_merged_into_it(seed, experts):
    copies = problem(seed, experts=1).expand(experts, -1, -1)
    assert ratio(dot_products(copies)).item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(merged_by(copies), copies[0])


def test_a_single_expert_is_returned():
    task_vectors = problem(seed=0, experts=1)
    assert torch.equal(merged_by(task_vectors), task_vectors[0])


def test_experts_at_right_angles_are_merged_into_the_pretrained_model():
    assert merged_by(torch.eye(4)).tolist() == [0.0] * 4


def test_experts_that_point_away_from_one_another_are_too():
    pair = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    assert merged_by(pair).tolist() == [0.0, 0.0]
    assert ratio(dot_products(pair), clamp=False) < -4
    # For three at 120 degrees the formula divides by zero.
    angles = torch.arange(3) * 2 * torch.pi / 3
    star = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert merged_by(star).tolist() == [0.0, 0.0]


@given(seed=seeds, common=st.sampled_from([0.0, 0.5]))
def test_without_clamping_the_formula_is_taken_as_it_is(seed, common):
    task_vectors = problem(seed, experts=3, common=common)
    merged = model_stock(task_vectors, dot_products(task_vectors), clamp=False)
    expected = by_hand(task_vectors, clamp=False)
    np.testing.assert_allclose(merged.flatten(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("clamp", [True, False])
def test_task_vectors_that_cancel_are_merged_into_the_pretrained_model(clamp):
    opposite = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    merged = model_stock(opposite, dot_products(opposite), clamp=clamp)
    assert merged.tolist() == [0.0, 0.0]


def test_a_task_vector_of_zero_is_at_right_angles_to_all():
    one = torch.tensor([3.0, 4.0])
    assert merged_by(torch.stack([one, 0 * one])).tolist() == [0.0, 0.0]
    # One of three pairs has cosine 1: t = 3 / 3 / (1 + 2 / 3), on two thirds of it.
    three = torch.stack([one, 0 * one, one])
    torch.testing.assert_close(merged_by(three), 0.6 * 2 / 3 * one)


def test_task_vectors_of_zero_alone_stay_zero():
    assert merged_by(torch.zeros(3, 2)).tolist() == [0.0, 0.0]


@given(seed=seeds, experts=st.integers(2, 5), spread=st.floats(0.2, 3))
def test_is_the_point_nearest_to_the_centre_seen_from_which_all_is_at_right_angles(
    seed, experts, spread
):
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(experts + 1, experts + 1, generator=generator)
    axes, _ = torch.linalg.qr(square.double())
    centre = 2 * axes[0]  # the pretrained model is at the origin
    experts_around = centre + spread * axes[1:]
    coefficients = torch.linalg.lstsq(experts_around.mT, centre[:, None]).solution
    nearest = (experts_around.mT @ coefficients).flatten()
    torch.testing.assert_close(merged_by(experts_around), nearest)


@given(seed=seeds, order=st.permutations(range(4)))
def test_the_order_of_experts_does_not_matter(seed, order):
    task_vectors = problem(seed, experts=4)
    torch.testing.assert_close(merged_by(task_vectors[order]), merged_by(task_vectors))


@given(seed=seeds, factor=st.sampled_from([2.0, -4.0, 0.25]))
def test_a_common_factor_goes_through(seed, factor):
    task_vectors = problem(seed)
    scaled = merged_by(factor * task_vectors)
    torch.testing.assert_close(scaled, factor * merged_by(task_vectors))


@given(seed=seeds, lengths=st.tuples(*[st.floats(0.1, 10)] * 3))
def test_the_ratio_is_of_directions_alone(seed, lengths):
    task_vectors = problem(seed)
    stretched = task_vectors * torch.tensor(lengths)[:, None, None]
    torch.testing.assert_close(
        ratio(dot_products(stretched)),
        ratio(dot_products(task_vectors)),
        rtol=1e-6,
        atol=1e-6,
    )


@given(seed=seeds)
def test_dot_products_of_parts_add_up(seed):
    task_vectors = problem(seed, shape=(10,))
    parts = sum(dot_products(part) for part in task_vectors.split(3, dim=1))
    torch.testing.assert_close(parts, dot_products(task_vectors))


def test_dot_products_resolve_angles_that_float32_does_not():
    # A cosine of 1 - 5e-9, over entries of which each is nearly the same.
    one = torch.ones(10_000)
    other = one.clone()
    other[0] += 1e-2
    dots = dot_products(torch.stack([one, other]))
    cosine = dots[0, 1] / (dots[0, 0] * dots[1, 1]).sqrt()
    assert 1 - cosine.item() == pytest.approx(5e-9, rel=0.01)


def test_inputs_are_untouched():
    task_vectors = problem(seed=0)
    before = task_vectors.clone()
    merged_by(task_vectors).fill_(7)
    assert torch.equal(task_vectors, before)


def test_angles_are_of_each_tensor_unless_the_model_is_asked_for():
    survey = METHOD.surveys["dots"]
    assert survey.is_per_tensor(METHOD.recipe().options)
    assert not survey.is_per_tensor(METHOD.recipe({"scope": "model"}).options)
    assert METHOD.recipe().options["scale"] == 1


def test_each_operation_is_counted_once():
    # Differences, the dot products of all pairs, mean, ratio, scale.
    assert METHOD.flops((6, 7), 3) == (3 + 2 * 9 + 3 + 1 + 2) * 42
    assert METHOD.flops((0,), 3) == 0
