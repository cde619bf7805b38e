"""Trim thresholds against a full stable sort in NumPy."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.errors import InputError, NonFiniteError
from mergegrid.statistics.trim import (
    TrimThreshold,
    keep_largest,
    kept_entries,
    trim_flops,
    trim_thresholds,
)


def trimmed(entries, threshold, ties_kept):
    left = None if ties_kept is None else torch.tensor([ties_kept])
    kept = kept_entries(entries.float().abs()[None], torch.tensor([threshold]), left)
    return entries.where(kept.entries[0], 0)


def kept_by_sorting(task_vector, k):
    """Which entries are kept, parameter by parameter, by sorting everything."""
    names = sorted(task_vector)
    flat = np.concatenate([task_vector[name].numpy().ravel() for name in names])
    order = np.argsort(-np.abs(flat), kind="stable")
    kept = np.zeros(flat.size, dtype=bool)
    kept[order[:k]] = True
    ends = np.cumsum([task_vector[name].numel() for name in names])[:-1]
    return dict(zip(names, np.split(kept, ends), strict=True))


def kept_by_threshold(task_vector, found):
    kept = {}
    for name, tensor in task_vector.items():
        # An entry of zero looks the same, kept or not: tell them apart by their ties.
        result = trimmed(tensor, found.threshold, found.ties_kept[name])
        mask = (result != 0).numpy().ravel()
        if found.threshold == 0:
            zeros = np.flatnonzero(tensor.numpy().ravel() == 0)
            mask[zeros[: found.ties_kept[name]]] = True
        kept[name] = mask
    return kept


ENTRIES = st.lists(
    # Few values, so that ties are common, and values that differ in their last bit.
    st.one_of(
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1.0000001, -1e-40, 3e38]),
        st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    max_size=12,
)


@given(
    entries=st.dictionaries(st.sampled_from("abcd"), ENTRIES, min_size=1),
    percents=st.lists(st.integers(0, 100), min_size=1, max_size=4),
)
def test_exactly_the_first_k_of_a_stable_sort_are_kept(entries, percents):
    task_vector = {n: torch.tensor(v, dtype=torch.float32) for n, v in entries.items()}
    size = sum(map(len, entries.values()))
    thresholds = trim_thresholds(task_vector, [percent / 100 for percent in percents])
    for percent in percents:
        expected = kept_by_sorting(task_vector, size * percent // 100)
        found = kept_by_threshold(task_vector, thresholds[percent / 100])
        for name, mask in expected.items():
            np.testing.assert_array_equal(found[name], mask, name)


@given(
    entries=st.dictionaries(st.sampled_from("abcd"), ENTRIES, min_size=1),
    percent=st.integers(0, 100),
    length=st.integers(1, 5),
    is_known=st.booleans(),
)
def test_stretch_by_stretch_the_same_entries_stay(entries, percent, length, is_known):
    task_vector = {n: torch.tensor(v, dtype=torch.float32) for n, v in entries.items()}
    size = sum(map(len, entries.values()))
    expected = kept_by_sorting(task_vector, size * percent // 100)
    found = trim_thresholds(task_vector, [percent / 100])[percent / 100]
    if not is_known:  # as it is read from what says nothing of it
        found = TrimThreshold(found.threshold, found.ties_kept)
    for name, tensor in task_vector.items():
        left = torch.tensor([found.ties_kept[name]])
        stretches = [
            keep_largest(stretch[None], name, [found], left)[0]
            for stretch in tensor.split(length)
        ]
        kept = torch.cat(stretches) if stretches else tensor
        assert kept.tolist() == (tensor.numpy() * expected[name]).tolist()
        every = keep_largest(tensor[None], name, [found], None)[0]
        assert (
            every.tolist() == tensor.where(tensor.abs() >= found.threshold, 0).tolist()
        )


def test_ties_are_counted_from_stretch_to_stretch():
    equal = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0])
    found = trim_thresholds({"a": equal}, [0.5])[0.5]
    left = torch.tensor([found.ties_kept["a"]])
    stretches = equal[None].split(2, dim=1)
    kept = [keep_largest(stretch, "a", [found], left).tolist() for stretch in stretches]
    assert kept == [[[1, -1]], [[1, 0]], [[0, 0]]]
    assert left.tolist() == [0]


def test_a_large_model_is_trimmed_as_by_sorting_for_all_densities_together():
    generator = torch.Generator().manual_seed(0)
    task_vector = {
        f"layer.{index}": torch.randn(shape, generator=generator) * 1e-3
        for index, shape in enumerate([(300, 200), (17,), (64, 3, 5, 5), (90, 700)])
    }
    size = sum(tensor.numel() for tensor in task_vector.values())
    densities = (1e-6, 1e-4, 0.1, 0.2, 0.5, 0.9999, 1.0)
    thresholds = trim_thresholds(task_vector, densities)
    for density in densities:
        expected = kept_by_sorting(task_vector, int(size * density))
        found = kept_by_threshold(task_vector, thresholds[density])
        for name, mask in expected.items():
            np.testing.assert_array_equal(found[name], mask)


def test_the_threshold_is_the_whole_models_and_not_each_parameters():
    task_vector = {"large": torch.full((10,), 2.0), "small": torch.full((10,), 1.0)}
    found = trim_thresholds(task_vector, [0.5])[0.5]
    assert found == TrimThreshold(2.0, {"large": 10, "small": 0})


def test_ties_are_kept_in_the_order_of_names_and_not_of_the_mapping():
    task_vector = {"b": torch.ones(4), "a": -torch.ones(2, 2), "c": torch.ones(4)}
    found = trim_thresholds(task_vector, [0.5])[0.5]
    assert found == TrimThreshold(1.0, {"a": 4, "b": 2, "c": 0})
    assert trimmed(task_vector["b"], 1.0, 2).tolist() == [1, 1, 0, 0]
    assert trimmed(task_vector["b"], 1.0, None).tolist() == [1, 1, 1, 1]


def test_a_density_counts_as_the_decimal_that_was_written():
    # In binary floating point, 0.29 * 100 is 28.999999999999996.
    entries = torch.arange(1.0, 101.0)
    found = trim_thresholds({"a": entries}, [0.29])[0.29]
    assert (
        int((trimmed(entries, found.threshold, found.ties_kept["a"]) != 0).sum()) == 29
    )


def test_nothing_and_everything_can_be_kept():
    entries = torch.tensor([0.0, 3.0, -3.0])
    found = trim_thresholds({"a": entries}, [0.0, 0.3, 1.0])
    assert found[0.0] == found[0.3] == TrimThreshold(3.0, {"a": 0})
    assert trimmed(entries, 3.0, 0).tolist() == [0, 0, 0]
    assert found[1.0] == TrimThreshold(0.0, {"a": 1})
    assert trimmed(entries, 0.0, 1).tolist() == [0, 3, -3]


def test_a_model_without_floating_point_entries_has_nothing_to_trim():
    task_vector = {"count": torch.tensor(3), "empty": torch.zeros(0)}
    assert trim_thresholds(task_vector, [0.2])[0.2] == TrimThreshold(0.0, {"empty": 0})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_compared_in_float32_and_come_back_as_they_were(dtype):
    entries = torch.tensor([[1.0, -4.0], [2.0, 3.0]], dtype=dtype)
    found = trim_thresholds({"a": entries}, [0.5])[0.5]
    result = trimmed(entries, found.threshold, found.ties_kept["a"])
    assert result.dtype == dtype
    assert result.tolist() == [[0, -4], [0, 3]]


def test_a_threshold_survives_json_exactly():
    found = trim_thresholds({"a": torch.randn(1000)}, [0.1])[0.1]
    again = TrimThreshold(**json.loads(json.dumps(asdict(found))))
    assert again == found
    assert again.cut == found.cut == ""


def test_a_threshold_says_where_some_of_its_ties_fall():
    task_vector = {"b": torch.ones(4), "a": -torch.ones(2, 2), "c": torch.ones(4)}
    found = trim_thresholds(task_vector, [0.25, 0.5, 1 / 3, 1.0])
    assert {density: each.cut for density, each in found.items()} == {
        0.25: "a", 0.5: "b", 1 / 3: "a", 1.0: ""
    }  # fmt: skip
    renamed = found[0.5].renamed({"b": "other", "z": "y"})
    assert renamed == TrimThreshold(1.0, {"a": 4, "other": 2, "c": 0})
    assert renamed.cut == "other"


@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), -float("inf"), -float("nan")]
)
def test_what_is_not_finite_is_named(bad):
    with pytest.raises(NonFiniteError, match=r"head\.bias"):
        trim_thresholds({"a": torch.ones(2), "head.bias": torch.tensor([bad])}, [0.5])


@pytest.mark.parametrize("density", [-0.1, 1.1, 20.0, float("nan")])
def test_a_density_outside_its_range_is_refused(density):
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        trim_thresholds({"a": torch.ones(2)}, [density])


def test_flops_follow_the_formula():
    exact, paper = trim_flops(1000, 0.2)
    assert exact == 2000
    assert paper == pytest.approx(200 * 1000 + 1000 * np.log(200))
