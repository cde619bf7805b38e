"""Faults of other tools in masks for tasks; each test is named after one.

They were seen in the code of TALL-masks and in merges that store masks as numbers.
"""

import pytest
import torch

from mergegrid import merge
from mergegrid.masks import compress
from mergegrid.methods import get_method

TASKS = ("a", "b", "c")


def problem(size=1000, frozen=0.6):
    """Three experts that leave the same 60 % of the entries alone."""
    generator = torch.Generator().manual_seed(0)
    pretrained = {"w": torch.randn(size, generator=generator)}
    is_changed = torch.rand(size, generator=generator) >= frozen
    experts = {
        task: {
            "w": pretrained["w"] + is_changed * torch.randn(size, generator=generator)
        }
        for task in TASKS
    }
    return experts, pretrained, is_changed


@pytest.mark.parametrize("comparison", ["inclusive", "strict"])
def test_mask_selects_what_nobody_changed(comparison):
    experts, pretrained, is_changed = problem()
    recipe = get_method("tall_masks").recipe({"comparison": comparison})
    compressed = compress(experts, recipe, pretrained)
    for task in TASKS:
        mask = compressed.mask(task, "w")
        assert mask.any()
        assert not mask[~is_changed].any()


def test_equality_selected_as_in_the_code_and_not_as_in_the_paper():
    # 1 of 3 is half of what the other changed.
    pretrained = {"w": torch.zeros(1)}
    experts = {"a": {"w": torch.tensor([1.0])}, "b": {"w": torch.tensor([2.0])}}
    for comparison, expected in (("inclusive", 3.0), ("strict", 0.0)):
        options = {"mask_threshold": 0.5, "comparison": comparison}
        recipe = {"method": "tall_masks", "options": options}
        found = merge(experts, recipe, pretrained, task="a")
        assert found["w"].item() == expected
    assert get_method("tall_masks").recipe().options["comparison"] == "inclusive"


def test_masks_stored_as_numbers():
    experts, pretrained, _ = problem()
    for method in ("tall_masks", "magnitude_masking", "emr"):
        compressed = compress(experts, get_method(method).recipe(), pretrained)
        numbers = 32 * 1000 + 32 * 3 * (method == "emr")
        assert compressed.bits == numbers + 3 * 1000  # one bit for each task and entry


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1001])
def test_bits_after_the_last_entry_read_as_entries(size):
    experts, pretrained, _ = problem(size, frozen=0.0)
    compressed = compress(experts, get_method("tall_masks").recipe(), pretrained)
    for task in TASKS:
        assert compressed.mask(task, "w").shape == (size,)
        merged = merge(experts, "tall_masks", pretrained, task=task)
        restored = compressed.reconstruct(task, pretrained)
        torch.testing.assert_close(restored["w"], merged["w"])


@pytest.mark.parametrize(
    ("agreement", "expected"), [(0, [3, 11, 9]), (1, [0, 11, 9]), (2, [0, 0, 9])]
)
def test_consensus_off_by_one_task(agreement, expected):
    # Selected by none (three cancel two), by one alone, and by two.
    vectors = [[1.0, 9.0, 4.0], [1.0, 1.0, 4.0], [1.0, 1.0, 1.0]]
    experts = [{"w": torch.tensor(vector)} for vector in vectors]
    options = {"agreement": agreement, "mask_threshold": 0.6, "scale": 1.0}
    recipe = {"method": "consensus", "options": options}
    assert merge(experts, recipe, {"w": torch.zeros(3)})["w"].tolist() == expected
