"""What 16-bit types have eaten of a task vector is seen in a sample."""

import pytest
import torch

from mergegrid.rounding import ENTRIES_LOOKED_AT, TENSORS_LOOKED_AT, fraction_eaten
from mergegrid.sources import InMemory


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fraction(expert, pretrained):
    return fraction_eaten(InMemory(expert), InMemory(pretrained), sorted(expert))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("distance", [1e-4, 1e-3, 1e-1])
@pytest.mark.parametrize("wide", [True, False])
def test_the_fraction_is_that_of_entries_that_rounded_back(dtype, distance, wide):
    pretrained = normal(60, 80, seed=1)
    if not wide:
        pretrained = pretrained.to(dtype)
    moved = (pretrained.float() + distance * normal(60, 80, seed=2)).to(dtype)
    expected = float((moved == pretrained.to(dtype)).float().mean())
    assert fraction({"w": moved}, {"w": pretrained}) == pytest.approx(expected)


def test_parameters_that_nobody_changed_do_not_count():
    pretrained = {name: normal(50, seed=i).bfloat16() for i, name in enumerate("abc")}
    expert = {**pretrained, "b": pretrained["b"] + 1}
    assert fraction(expert, pretrained) == 0.0
    assert fraction(pretrained, pretrained) == 0.0


def test_experts_in_float32_have_lost_nothing():
    pretrained = normal(50, seed=0)
    assert fraction({"w": pretrained}, {"w": pretrained}) == 0.0


def test_little_is_read_however_large_the_model():
    asked = []

    class Counted(InMemory):
        def read(self, name, start, stop):
            asked.append(stop - start)
            return super().read(name, start, stop)

    large = {f"w{i}": torch.ones(200, 200).bfloat16() for i in range(100)}
    fraction_eaten(Counted(large), InMemory(large), sorted(large))
    assert len(asked) <= TENSORS_LOOKED_AT
    assert max(asked) <= ENTRIES_LOOKED_AT


def test_rows_that_one_model_lacks_are_not_looked_at():
    pretrained = {"w": normal(10, 4, seed=0).bfloat16()}
    expert = {"w": pretrained["w"][:6] + 1}
    assert fraction(expert, pretrained) == 0.0
    assert fraction(pretrained, {"w": expert["w"]}) == 0.0
