"""What models for reference and merged ones take, counted by the Prefect tasks."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mergegrid.methods import get_method
from mergegrid.stored_parts import Part
from tasks.stored import merged_parts, reference_parts, storage_rows


class Model(nn.Module):
    """A model of which the weight is merged, and ten numbers are not."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(8, 16))
        self.bias = nn.Parameter(torch.ones(16))  # merged, and never changed
        self.frozen = nn.Parameter(torch.zeros(10, dtype=torch.bfloat16))

    def merged(self):
        return {"weight": self.weight.detach(), "bias": self.bias.detach()}


PRETRAINED = Model(0)
WORKSPACE = SimpleNamespace(
    steps=SimpleNamespace(pretrained=SimpleNamespace(key="pretrained")),
    parameters=lambda _key: PRETRAINED.merged(),
    device=torch.device("cpu"),
)


def reference(method, model):
    entry = SimpleNamespace(cell=SimpleNamespace(method=method))
    return reference_parts(WORKSPACE, model, entry, model.merged())


@pytest.mark.parametrize("method", ["pretrained", "multitask"])
def test_a_single_model_takes_all_its_numbers(method):
    found = reference(method, Model(1))
    assert found == [Part("model", 32 * (128 + 16 + 10), 4 * 144 + 2 * 10)]


def test_an_expert_takes_what_it_has_changed_and_shares_the_rest():
    assert reference("individual", Model(1)) == [
        Part("experts", 32 * 128, 4 * 128),
        Part("frozen", 32 * 26, 4 * 16 + 2 * 10),
    ]


def merged(method, subset="ab"):
    return merged_parts(
        WORKSPACE,
        PRETRAINED,
        get_method(method).recipe(),
        {name: Model(seed).merged() for seed, name in enumerate("abc", 1)},
        PRETRAINED.merged(),
        {},
        subset=subset,
        seed=0,
    )


def test_masks_of_the_merged_experts_are_counted_with_all_of_the_pretrained_model():
    found = {part.part: part for part in merged("tall_masks")}
    assert found["pretrained"] == Part("pretrained", 32 * 154, 4 * 144 + 2 * 10)
    assert found["task_vector"].bits == 32 * 128
    assert found["masks"].bits == 2 * 128
    assert 2 * 16 < found["masks"].bytes < 2 * 250


def test_methods_with_one_model_for_all_tasks_have_no_parts():
    assert merged("average") == []
    assert merged("consensus") == []


def test_rows_say_what_each_part_of_a_cell_takes():
    (row,) = storage_rows("cell-v2-1", [Part("masks", 80, 12)])
    assert row == {
        "table": "storage",
        "cell": "cell-v2-1",
        "part": "masks",
        "bits": 80,
        "bytes": 12,
    }
