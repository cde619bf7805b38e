"""EMR-merging against its definition, on the flat vector of the whole model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.methods.emr import (
    METHOD,
    emr,
    emr_mask,
    masses,
    rescalers,
    unify,
)
from mergegrid.methods.needs import Need

seeds = st.integers(0, 2**32 - 1)
SHAPES = {"a": (3, 5), "b": (7,), "c": ()}


def problem(seed, number=4, digits=None):
    generator = torch.Generator().manual_seed(seed)
    model = {
        name: torch.randn(number, *shape, generator=generator)
        for name, shape in SHAPES.items()
    }
    if digits is not None:  # exact zeros and sums of zero
        model = {
            name: (change * 2**digits).round() / 2**digits
            for name, change in model.items()
        }
    return model


def merged(model, scope="model"):
    measured = {name: masses(change) for name, change in model.items()}
    if scope == "model":
        measured = dict.fromkeys(model, sum(measured.values()))
    return {name: emr(change, measured[name]) for name, change in model.items()}


def flat(model):
    return np.concatenate(
        [change.double().reshape(len(change), -1).numpy() for change in model.values()],
        axis=1,
    )


def reference(vectors):
    number, entries = vectors.shape
    unified = np.zeros(entries)
    for place in range(entries):
        column = vectors[:, place]
        sign = 1 if sum(column) > 0 else -1
        unified[place] = sign * max([abs(x) for x in column if x * sign > 0], default=0)
    restored = np.zeros(vectors.shape)
    for expert in range(number):
        mask = [x * u > 0 for x, u in zip(vectors[expert], unified, strict=True)]
        before = sum(abs(x) for x in vectors[expert])
        after = sum(abs(u) for u, kept in zip(unified, mask, strict=True) if kept)
        if after > 0:
            restored[expert] = before / after * np.array(mask) * unified
    return restored


@given(
    seed=seeds,
    number=st.integers(1, 5),
    digits=st.sampled_from([None, 0, 1]),
)
def test_is_its_definition_over_the_whole_model(seed, number, digits):
    model = problem(seed, number, digits)
    np.testing.assert_allclose(
        flat(merged(model)), reference(flat(model)), rtol=1e-6, atol=1e-12
    )


@given(seed=seeds, digits=st.sampled_from([None, 1]))
def test_by_tensor_every_tensor_is_a_model_of_its_own(seed, digits):
    model = problem(seed, digits=digits)
    found = merged(model, scope="tensor")
    for name, change in model.items():
        expected = reference(flat({name: change}))
        np.testing.assert_allclose(
            flat({name: found[name]}), expected, rtol=1e-6, atol=1e-12
        )
    whole = merged(model)
    assert not np.allclose(flat(found), flat(whole))


@given(seed=seeds, number=st.integers(1, 5))
def test_the_l1_norm_of_every_task_vector_is_restored(seed, number):
    model = problem(seed, number)
    before = np.abs(flat(model)).sum(axis=1)
    after = np.abs(flat(merged(model))).sum(axis=1)
    np.testing.assert_allclose(after, before, rtol=1e-5)


@given(seed=seeds)
def test_no_factor_exceeds_one_if_no_signs_differ(seed):
    model = {name: change.abs() for name, change in problem(seed).items()}
    total = sum(masses(change) for change in model.values())
    assert (rescalers(total) <= 1).all()


def test_a_factor_can_exceed_one_where_signs_differ():
    task_vectors = torch.tensor([[1.0, 1.0], [-2.0, 1.0]])
    assert rescalers(masses(task_vectors)).tolist() == [2.0, 1.0]


@given(seed=seeds)
def test_one_expert_is_restored_exactly(seed):
    model = problem(seed, number=1)
    for name, found in merged(model).items():
        assert torch.equal(found, model[name])


@given(seed=seeds)
def test_equal_experts_are_restored_exactly(seed):
    model = {
        name: change.expand(3, *change.shape[1:])
        for name, change in problem(seed, number=1).items()
    }
    for name, found in merged(model).items():
        assert torch.equal(found, model[name])


def test_experts_that_change_different_entries_are_all_restored():
    task_vectors = torch.diag(torch.tensor([1.0, -2.0, 3.0]))
    assert torch.equal(emr(task_vectors, masses(task_vectors)), task_vectors)


@given(seed=seeds, order=st.permutations(range(4)))
def test_the_order_of_experts_is_that_of_the_result_and_nothing_else(seed, order):
    model = problem(seed)
    found = merged(model)
    permuted = merged({name: change[order] for name, change in model.items()})
    for name, change in found.items():
        torch.testing.assert_close(permuted[name], change[order])


@given(seed=seeds, factor=st.floats(1e-3, 1e3))
def test_it_is_equivariant_to_positive_scale(seed, factor):
    model = {name: change.double() for name, change in problem(seed).items()}
    found = merged(model)
    scaled = merged({name: factor * change for name, change in model.items()})
    for name, change in found.items():
        torch.testing.assert_close(scaled[name], factor * change)


def test_the_unified_entry_is_the_largest_that_has_the_sign_of_the_sum():
    task_vectors = torch.tensor([[3.0, -1.0], [-2.0, -4.0], [1.0, 4.5]])
    assert unify(task_vectors).tolist() == [3.0, -4.0]
    masks = emr_mask(task_vectors, unify(task_vectors))
    assert masks.tolist() == [[True, True], [False, True], [True, False]]


def test_where_task_vectors_cancel_the_negative_sign_is_elected():
    task_vectors = torch.tensor([[2.0], [-2.0]])
    assert unify(task_vectors).tolist() == [-2.0]
    assert emr(task_vectors, masses(task_vectors)).tolist() == [[0.0], [-2.0]]


def test_a_sum_of_zero_does_not_depend_on_the_order_of_experts():
    values = torch.tensor([[0.1], [0.2], [-0.3]])
    found = {unify(values[[*order]]).item() for order in ((0, 1, 2), (2, 1, 0))}
    assert len(found) == 1


def test_changes_whose_products_are_too_small_for_float32_are_selected():
    task_vectors = torch.tensor([[1e-30, -1e-30], [2e-30, -3e-30]])
    assert (task_vectors[0] * task_vectors[1] == 0).all()
    found = emr(task_vectors, masses(task_vectors))
    expected = reference(task_vectors.double().numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_expert_that_is_outvoted_everywhere_is_the_pretrained_model():
    task_vectors = torch.tensor([[1.0, -1.0], [-5.0, 5.0]])
    found = emr(task_vectors, masses(task_vectors))
    assert found.tolist() == [[0.0, 0.0], [-5.0, 5.0]]
    assert rescalers(masses(task_vectors)).tolist() == [1.0, 1.0]


def test_an_expert_that_is_the_pretrained_model_stays_it():
    task_vectors = torch.tensor([[0.0, 0.0], [-5.0, 5.0]])
    found = emr(task_vectors, masses(task_vectors))
    assert torch.equal(found, task_vectors)


@given(seed=seeds)
def test_masses_of_parts_add_up(seed):
    change = problem(seed)["a"].flatten(1)
    parts = sum(masses(part) for part in change.split(4, dim=1))
    torch.testing.assert_close(parts, masses(change))
    assert parts.dtype == torch.float64
    assert parts.shape == (2, 4)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (7,), (2, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_types_are_kept_and_inputs_untouched(shape, dtype):
    task_vectors = torch.linspace(-1, 2, 3 * math.prod(shape), dtype=dtype).view(
        3, *shape
    )
    before = task_vectors.clone()
    found = emr(task_vectors, masses(task_vectors))
    assert found.shape == (3, *shape)
    assert found.dtype == dtype
    assert torch.equal(task_vectors, before)


def test_nothing_at_all_gives_nothing_and_no_nan():
    zeros = torch.zeros(2, 3)
    assert torch.equal(emr(zeros, masses(zeros)), zeros)


def test_the_record_has_no_option_of_its_own():
    recipe = METHOD.recipe()
    assert recipe.options["scope"] == "model"
    assert recipe.options["scale"] == 1.0
    assert METHOD.merged_options == ()
    assert METHOD.needs_of(recipe.options) == {Need.PRETRAINED}
    survey = METHOD.surveys["masses"]
    assert survey.is_asked(recipe.options)
    assert not survey.is_per_tensor(recipe.options)
    assert survey.is_per_tensor(METHOD.recipe({"scope": "tensor"}).options)
    assert METHOD.per_task


def test_the_cost_is_in_proportion_to_the_entries():
    for experts in (1, 2, 8):
        per_entry = METHOD.flops((), experts)
        assert METHOD.flops((6, 7), experts) == 42 * per_entry
        assert METHOD.flops((0,), experts) == 0
