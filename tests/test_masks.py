"""Compressed experts: packed masks, what they take to store, and what they restore."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid import merge
from mergegrid.errors import InputError, LayoutError, NonFiniteError, UnknownNameError
from mergegrid.masks import (
    agreement_profile,
    compress,
    pack,
    pruning_density,
    storage_bits,
    unpack,
)
from mergegrid.methods import consensus, emr, magnitude_masking, tall_masks

seeds = st.integers(0, 2**32 - 1)
TASKS = ("b/task", "a", "c")
SHAPES = {
    "blocks.0.weight": (3, 5),
    "blocks.1.weight": (3, 5),
    "head.bias": (7,),
    "temperature": (),
}

RECIPES = {
    "tall": tall_masks.METHOD.recipe(),
    "tall, a threshold for each": tall_masks.METHOD.recipe(
        {"mask_threshold": (0.2, 0.9, 0.5), "comparison": "strict", "scale": 0.7}
    ),
    "tall, ties": tall_masks.METHOD.recipe({"merge_by": "ties", "density": 0.4}),
    "tall, ties, all equal": tall_masks.METHOD.recipe(
        {"merge_by": "ties", "density": 0.3, "selection": "threshold"}
    ),
    "tall by depth": tall_masks.METHOD.recipe({"depth_scale": 0.5}),
    "magnitude": magnitude_masking.METHOD.recipe({"density": 0.3}),
    "emr": emr.METHOD.recipe(),
    "emr by tensor": emr.METHOD.recipe({"scope": "tensor"}),
}

every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())


def problem(seed=0, dtype=torch.float32):
    """Make models with everything: ties, frozen parameters, buffers, integers."""
    generator = torch.Generator().manual_seed(seed)

    def random(shape):
        return (torch.randn(shape, generator=generator) * 8).round() / 8

    pretrained = {name: random(shape).to(dtype) for name, shape in SHAPES.items()}
    frozen = random((4, 2)).to(dtype)
    buffers = {
        "ids": torch.arange(5),
        "norm.running_mean": torch.zeros(3, dtype=dtype),
        "norm.num_batches_tracked": torch.tensor(3),
    }
    pretrained |= {"frozen": frozen, **buffers}
    pretrained["output.weight"] = pretrained["blocks.0.weight"]
    experts = {}
    for number, task in enumerate(TASKS):
        expert = {
            name: (pretrained[name] + random(shape).to(dtype))
            for name, shape in SHAPES.items()
        }
        expert |= {"frozen": frozen.clone(), **buffers}
        expert["norm.running_mean"] = torch.full((3,), number + 1.0, dtype=dtype)
        expert["norm.num_batches_tracked"] = torch.tensor(number)
        expert["output.weight"] = expert["blocks.0.weight"]
        experts[task] = expert
    return experts, pretrained


def changes(experts, pretrained):
    return {
        name: torch.stack([e[name].float() for e in experts.values()])
        - pretrained[name].float()
        for name in sorted(SHAPES)
    }


def trimmed_of(vectors, density, selection):
    """Trim every expert over the whole model, frozen parameters included."""
    names = sorted([*vectors, "frozen"])
    frozen = torch.zeros(3, 8)
    flat = torch.cat(
        [vectors.get(name, frozen).reshape(3, -1) for name in names], dim=1
    ).numpy()
    kept = np.zeros_like(flat)
    for row, into in zip(flat, kept, strict=True):
        order = np.argsort(-np.abs(row), kind="stable")
        count = math.floor(density * len(row) + 1e-9)
        into[order[:count]] = row[order[:count]]
        if selection == "threshold":
            equal = np.abs(row) >= np.abs(row[order[count - 1]])
            into[equal] = row[equal]
    found, start = {}, 0
    for name in names:
        width = vectors.get(name, frozen)[0].numel()
        part = kept[:, start : start + width]
        start += width
        if name in vectors:
            found[name] = torch.tensor(part).view(vectors[name].shape)
    return found


def from_pure_functions(recipe, task, experts, pretrained):
    """Restore a task's model by the functions that the engine calls."""
    options = recipe.options
    index = TASKS.index(task)
    vectors = changes(experts, pretrained)
    trimmed = {}
    if "density" in options:
        trimmed = trimmed_of(vectors, options["density"], options["selection"])
    balance = sum(tall_masks.trimmed_balance(t) for t in trimmed.values())
    measured = {name: emr.masses(vector) for name, vector in vectors.items()}
    if options.get("scope") == "model":
        measured = dict.fromkeys(vectors, sum(measured.values()))
    restored = {name: tensor.clone() for name, tensor in pretrained.items()}
    for name, vector in vectors.items():
        match recipe.method:
            case "tall_masks":
                chosen = {
                    key: options[key]
                    for key in ("merge_by", "mask_threshold", "comparison")
                }
                found = tall_masks.tall_masks(vector, trimmed[name], balance, **chosen)
            case "magnitude_masking":
                found = magnitude_masking.magnitude_masking(vector, trimmed[name])
            case "emr":
                found = emr.emr(vector, measured[name])
        scale = options["scale"]
        if name == "blocks.1.weight":
            scale += options["depth_scale"]
        changed = pretrained[name].float() + scale * found[index]
        restored[name] = changed.to(pretrained[name].dtype)
    restored["output.weight"] = restored["blocks.0.weight"]
    return restored


@given(seed=seeds, size=st.integers(0, 40))
def test_packing_takes_one_bit_for_each_entry_the_first_one_lowest(seed, size):
    mask = torch.rand(size, generator=torch.Generator().manual_seed(seed)) < 0.5
    packed = pack(mask)
    assert packed.dtype == torch.uint8
    expected = np.packbits(mask.numpy(), bitorder="little")
    assert packed.tolist() == expected.tolist()
    assert torch.equal(unpack(packed, (size,)), mask)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (8,), (3, 3), (2, 3, 5)])
def test_what_is_packed_is_unpacked_in_its_shape(shape):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(shape, generator=generator) < 0.5
    for each in (mask, ~mask, torch.ones_like(mask)):
        assert torch.equal(unpack(pack(each), shape), each)
        assert len(pack(each)) == math.ceil(each.numel() / 8)


def test_a_mask_that_is_not_contiguous_is_packed_row_by_row():
    mask = torch.tensor([[True, False, False], [True, True, False]])
    assert pack(mask.mT).tolist() == [0b001011]


# Gigabits of Tables 2 and 3 of the paper: parameters and frozen ones in millions, then
# for each number of tasks those of the fine-tuned models and of TALL-masks.
TABLES = {
    "T5-large": (
        (784, 34),
        "25.1",
        {7: "169.1 54.3", 8: "193.1 55.1", 11: "265.1 57.3"},
    ),
    "ViT-B/32": ((112.85, 25), "3.6", {8: "23.3 7.1", 14: "40.2 7.7", 20: "57.0 8.2"}),
    "ViT-L/14": (
        (342.5, 38.5),
        "11.0",
        {8: "79.1 23.1", 14: "137.4 24.9", 20: "195.8 26.8"},
    ),
}


@pytest.mark.parametrize("model", TABLES)
def test_storage_is_what_the_paper_prints(model):
    sizes, single, by_tasks = TABLES[model]
    parameters, frozen = (round(size * 1e6) for size in sizes)
    for tasks, printed in by_tasks.items():
        gigabits = {
            kind: f"{storage_bits(parameters, frozen, tasks, kind) / 1e9:.1f}"
            for kind in ("single", "individual", "tall_masks", "magnitude_masking")
        }
        assert gigabits["single"] == single
        assert f"{gigabits['individual']} {gigabits['tall_masks']}" == printed
        assert gigabits["magnitude_masking"] == gigabits["tall_masks"]


@given(
    trained=st.integers(0, 1000), frozen=st.integers(0, 1000), tasks=st.integers(1, 40)
)
def test_storage_is_by_the_formulas_of_the_appendix(trained, frozen, tasks):
    expected = {
        "single": 32 * (trained + frozen),
        "individual": 32 * (tasks * trained + frozen),
        "tall_masks": (64 + tasks) * trained + 32 * frozen,
        "magnitude_masking": (64 + tasks) * trained + 32 * frozen,
        "magnitude_pruning": (64 + tasks) * trained + 32 * frozen,
        "emr": (64 + tasks) * trained + 32 * frozen + 32 * tasks,
    }
    for kind, bits in expected.items():
        assert storage_bits(trained + frozen, frozen, tasks, kind) == bits


@given(
    trained=st.integers(0, 1000), frozen=st.integers(0, 1000), kept=st.integers(0, 9999)
)
def test_pruned_numbers_take_32_bits_each_where_it_is_known_how_many(
    trained, frozen, kept
):
    bits = storage_bits(trained + frozen, frozen, 5, "magnitude_pruning", kept)
    assert bits == 32 * (trained + frozen) + 32 * kept


def test_storage_of_impossible_numbers_or_kinds_is_refused():
    for numbers in ((1, 2, 3), (1, -1, 3), (1, 0, -1)):
        with pytest.raises(InputError):
            storage_bits(*numbers, "single")
    with pytest.raises(UnknownNameError, match="Did you mean 'tall_masks'"):
        storage_bits(1, 0, 1, "tall_mask")


@pytest.mark.parametrize("tasks", [2, 8, 20])
def test_pruned_task_vectors_take_what_masks_take_at_the_density_for_it(tasks):
    trained, frozen = 1000, 100
    entries = 32 * tasks * pruning_density(tasks) * trained
    pruned = 32 * (trained + frozen) + entries
    masked = storage_bits(trained + frozen, frozen, tasks, "magnitude_pruning")
    assert pruned == pytest.approx(masked)
    assert pruning_density(1) == 1.0


@given(seed=seeds, tasks=st.integers(1, 5))
def test_the_profile_counts_entries_by_how_many_tasks_select_them(seed, tasks):
    generator = torch.Generator().manual_seed(seed)
    masks = [
        torch.rand(tasks, *shape, generator=generator) < 0.5
        for shape in ((3, 4), (5,), (), (0,))
    ]
    counts = [0] * (tasks + 1)
    for mask in masks:
        for column in mask.reshape(tasks, -1).T.tolist() if mask.numel() else []:
            counts[sum(column)] += 1
    profile = agreement_profile(masks)
    np.testing.assert_allclose(profile, np.array(counts) / 18)
    assert profile.sum().item() == pytest.approx(1)


def test_the_profile_of_nothing_is_refused_and_of_empty_parameters_zero():
    with pytest.raises(InputError, match="no masks"):
        agreement_profile([])
    empty = agreement_profile([torch.zeros(2, 0, dtype=torch.bool)])
    assert empty.tolist() == [0, 0, 0]


@every_recipe
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_restored_is_what_the_method_gives(recipe, dtype):
    experts, pretrained = problem(dtype=dtype)
    compressed = compress(experts, recipe, pretrained)
    for task in TASKS:
        restored = compressed.reconstruct(task, pretrained)
        expected = from_pure_functions(recipe, task, experts, pretrained)
        assert restored.keys() == pretrained.keys()
        for name, tensor in restored.items():
            assert tensor.dtype == pretrained[name].dtype
            torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-6)


@every_recipe
def test_what_is_restored_is_the_engines_model_for_the_task(recipe):
    experts, pretrained = problem(seed=5)
    compressed = compress(experts, recipe, pretrained)
    for task in TASKS:
        merged = merge(experts, recipe, pretrained, task=task)
        restored = compressed.reconstruct(task, pretrained)
        for name in pretrained:
            if "running" not in name:  # the engine averages them
                torch.testing.assert_close(restored[name], merged[name])


@every_recipe
def test_integers_buffers_and_frozen_parameters_are_the_pretrained_models(recipe):
    experts, pretrained = problem(seed=1)
    compressed = compress(experts, recipe, pretrained)
    others = ("ids", "norm.running_mean", "norm.num_batches_tracked", "frozen")
    assert compressed.task_vector.keys() == SHAPES.keys()
    restored = compressed.reconstruct("a", pretrained)
    for name in others:
        assert torch.equal(restored[name], pretrained[name])
        assert restored[name].data_ptr() != pretrained[name].data_ptr()


def test_tied_tensors_are_stored_once_and_tied_again():
    experts, pretrained = problem()
    compressed = compress(experts, RECIPES["tall"], pretrained)
    assert "output.weight" not in compressed.task_vector
    restored = compressed.reconstruct("c", pretrained)
    assert restored["output.weight"] is restored["blocks.0.weight"]


@every_recipe
def test_it_takes_the_bits_that_the_formula_says_but_for_whole_bytes(recipe):
    experts, pretrained = problem()
    compressed = compress(experts, recipe, pretrained)
    trained = sum(math.prod(shape) for shape in SHAPES.values())
    frozen, tasks = 8, len(TASKS)
    kind = recipe.method
    formula = storage_bits(trained + frozen, frozen, tasks, kind)
    with_pretrained = compressed.bits + 32 * (trained + frozen)
    padding = tasks * sum(-math.prod(shape) % 8 for shape in SHAPES.values())
    factors = (
        32 * tasks * (len(SHAPES) - 1) if recipe.options.get("scope") == "tensor" else 0
    )
    assert with_pretrained == formula + padding + factors


def test_it_takes_a_number_and_a_bit_for_each_task_and_entry():
    generator = torch.Generator().manual_seed(0)
    pretrained = {"a": torch.randn(1000, 8, generator=generator)}
    experts = {
        str(number): {"a": torch.randn(1000, 8, generator=generator)}
        for number in range(8)
    }
    compressed = compress(experts, RECIPES["tall"], pretrained)
    assert compressed.bits == 8000 * (32 + 8)


def test_one_expert_is_restored():
    experts, pretrained = problem()
    alone = {"a": experts["a"]}
    for recipe in (RECIPES["tall"], RECIPES["emr"]):
        restored = compress(alone, recipe, pretrained).reconstruct("a", pretrained)
        for name in SHAPES:
            assert torch.equal(restored[name], experts["a"][name])


def test_experts_that_are_the_pretrained_model_take_nothing():
    _, pretrained = problem()
    experts = {task: dict(pretrained) for task in TASKS}
    for recipe in RECIPES.values():
        compressed = compress(experts, recipe, pretrained)
        assert compressed.bits == 0
        restored = compressed.reconstruct("a", pretrained)
        assert all(torch.equal(restored[name], pretrained[name]) for name in pretrained)


def test_the_agreement_is_that_of_the_masks():
    experts, pretrained = problem(seed=3)
    compressed = compress(experts, RECIPES["tall"], pretrained)
    counts = torch.cat(
        [
            sum(compressed.mask(task, name).int() for task in TASKS).reshape(-1)
            for name in SHAPES
        ]
    )
    expected = [(counts == number).double().mean().item() for number in range(4)]
    np.testing.assert_allclose(compressed.agreement(), expected)


def test_masks_in_agreement_give_consensus_merging():
    experts, pretrained = problem(seed=4)
    compressed = compress(experts, RECIPES["tall"], pretrained)
    for name, vector in changes(experts, pretrained).items():
        for agreement in range(5):
            votes = sum(compressed.mask(task, name).int() for task in TASKS)
            kept = compressed.task_vector[name] * (votes >= agreement)
            found = consensus.consensus(vector, None, None, agreement=agreement)
            assert torch.equal(kept, found)


def test_inputs_are_untouched():
    experts, pretrained = problem()
    before, base = problem()
    compressed = compress(experts, RECIPES["tall, ties"], pretrained)
    compressed.reconstruct("a", pretrained)
    for model, copy in (
        (pretrained, base),
        *zip(experts.values(), before.values(), strict=True),
    ):
        assert all(torch.equal(model[name], copy[name]) for name in copy)


def test_an_unknown_task_is_answered_with_those_there_are():
    experts, pretrained = problem()
    compressed = compress(experts, RECIPES["tall"], pretrained)
    for call in (
        lambda: compressed.reconstruct("d", pretrained),
        lambda: compressed.mask("d", "head.bias"),
    ):
        with pytest.raises(UnknownNameError, match="no task 'd'"):
            call()


def test_a_pretrained_model_of_another_layout_is_refused():
    experts, pretrained = problem()
    compressed = compress(experts, RECIPES["tall"], pretrained)
    lacking = {name: pretrained[name] for name in pretrained if name != "ids"}
    for wrong, message in (
        (lacking, "compressed model has 'ids'"),
        ({**pretrained, "x": torch.ones(1)}, "pretrained model has 'x'"),
        ({**pretrained, "head.bias": torch.ones(8)}, "'head.bias' with shape"),
    ):
        with pytest.raises(LayoutError, match=message):
            compressed.reconstruct("a", wrong)
    with pytest.raises(LayoutError, match="ids"):
        compress(experts, RECIPES["tall"], lacking)


def test_what_masks_cannot_stand_for_is_refused():
    experts, pretrained = problem()
    refused = (
        consensus.METHOD.recipe(),
        magnitude_masking.METHOD.recipe({"selection": "random"}),
        tall_masks.METHOD.recipe({"match_norm": True}),
    )
    for recipe in refused:
        with pytest.raises(InputError, match=recipe.method):
            compress(experts, recipe, pretrained)
    with pytest.raises(InputError, match="at least one expert"):
        compress({}, RECIPES["tall"], pretrained)


def test_nan_is_refused_by_name():
    experts, pretrained = problem()
    experts["a"]["head.bias"] = torch.full((7,), math.nan)
    with pytest.raises(NonFiniteError, match=r"head\.bias"):
        compress(experts, RECIPES["tall"], pretrained)


@given(seed=seeds)
def test_masks_select_less_at_a_higher_threshold(seed):
    experts, pretrained = problem(seed)
    by_threshold = [
        compress(
            experts, tall_masks.METHOD.recipe({"mask_threshold": limit}), pretrained
        )
        for limit in (0.2, 0.4, 0.6)
    ]
    for more, fewer in itertools.pairwise(by_threshold):
        for task in TASKS:
            for name in SHAPES:
                assert not (fewer.mask(task, name) & ~more.mask(task, name)).any()
