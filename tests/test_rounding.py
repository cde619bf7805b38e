"""What 16-bit types have eaten of a task vector is seen in a sample."""

import logging

import pytest
import torch

from mergegrid import merge, sweep
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


def warnings_of(caplog, function, *arguments, **options):
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="mergegrid"):
        function(*arguments, **options)
    return caplog.messages


@pytest.fixture
def models():
    """A pretrained model, an expert that moved little, and the same in float32."""
    large = normal(100, 100, seed=0)
    moved = large + 1e-4 * normal(100, 100, seed=1)
    experts = {"narrow": {"w": moved.bfloat16()}, "wide": {"w": moved}}
    return experts, {"w": large.bfloat16()}


def test_merging_task_vectors_that_rounding_has_eaten_is_a_warning(models, caplog):
    experts, pretrained = models
    (warning,) = warnings_of(caplog, merge, experts, "ties", pretrained)
    zeros = experts["narrow"]["w"] == pretrained["w"]
    assert warning == (
        f"The expert 'narrow' is stored in bfloat16, which has rounded about "
        f"{100 * float(zeros.float().mean()):.0f} % of its task vector away. Merge "
        f"float32 checkpoints, if there are any."
    )


def test_merging_what_has_no_task_vectors_is_none(models, caplog):
    experts, pretrained = models
    assert not warnings_of(caplog, merge, experts, "average", pretrained)
    assert not warnings_of(caplog, merge, experts, "mlerp")
    only_wide = {"wide": experts["wide"]}
    assert not warnings_of(caplog, merge, only_wide, "ties", pretrained)


def test_a_sweep_warns_once_and_of_what_it_merges_alone(models, caplog):
    experts, pretrained = models
    recipes = ["average", "ties", "task_arithmetic"]
    assert len(warnings_of(caplog, sweep, experts, recipes, pretrained)) == 1
    subsets = [("narrow", "wide"), ("wide",), ("wide",)]
    assert not warnings_of(caplog, sweep, experts, recipes, pretrained, subsets=subsets)
