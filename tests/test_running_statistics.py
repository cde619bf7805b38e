"""Means and variances of batch normalization, against the inputs that they are of."""

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mergegrid import METHODS, merge, sweep
from mergegrid.cli import main

seeds = st.integers(0, 2**32 - 1)
MEAN, VARIANCE = "bn.running_mean", "bn.running_var"


def problem(seed, number=3):
    """Experts that saw as many inputs each, and all of these together."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(number, 50, 4)) * random.uniform(
        0.5, 2, (number, 1, 4)
    )
    inputs = inputs + 3 * random.normal(size=(number, 1, 4))
    experts = {}
    for index, seen in enumerate(inputs):
        experts["abcdef"[index]] = {
            "w": torch.tensor(random.normal(size=(4,))).float(),
            MEAN: torch.tensor(seen.mean(axis=0)).float(),
            VARIANCE: torch.tensor(seen.var(axis=0)).float(),
            "bn.num_batches_tracked": torch.tensor(index),
        }
    return experts, np.concatenate(inputs)


def assert_near(found, expected):
    found = found.double().numpy()
    assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)


@given(seed=seeds, number=st.integers(1, 6))
def test_they_are_averaged_by_default(seed, number):
    experts, inputs = problem(seed, number)
    found = merge(experts, "average")
    assert_near(found[MEAN], inputs.mean(axis=0))
    variances = [expert[VARIANCE].double().numpy() for expert in experts.values()]
    assert_near(found[VARIANCE], np.mean(variances, axis=0))


@given(seed=seeds, number=st.integers(1, 6))
def test_the_total_variance_is_that_of_what_all_experts_saw(seed, number):
    experts, inputs = problem(seed, number)
    found = merge(experts, "average", running_variance="total")
    assert_near(found[MEAN], inputs.mean(axis=0))
    assert_near(found[VARIANCE], inputs.var(axis=0))


def test_a_total_variance_is_never_negative_however_large_the_means():
    experts, _ = problem(seed=0)
    for expert in experts.values():
        expert[MEAN] = torch.full((4,), 12345.678)
        expert[VARIANCE] = torch.full((4,), 1e-6)
    found = merge(experts, "average", running_variance="total")
    torch.testing.assert_close(found[VARIANCE], torch.full((4,), 1e-6))


def test_a_variance_without_a_mean_is_averaged():
    experts = [{"n.running_var": torch.tensor([value])} for value in (1.0, 3.0)]
    found = merge(experts, "average", running_variance="total")
    assert found["n.running_var"].tolist() == [2.0]


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "emr"])
def test_what_is_merged_beside_them_does_not_matter(method):
    experts, inputs = problem(seed=1)
    pretrained = {name: torch.zeros_like(t) for name, t in experts["a"].items()}
    task = "a" if METHODS[method].per_task else None
    found = merge(experts, method, pretrained, task=task, running_variance="total")
    assert_near(found[MEAN], inputs.mean(axis=0))
    assert_near(found[VARIANCE], inputs.var(axis=0))


def test_in_a_sweep_they_are_those_of_the_subset():
    experts, _ = problem(seed=2)
    experts["b"] = {
        name: t.half() if t.is_floating_point() else t
        for name, t in experts["b"].items()
    }
    subsets = [("b",), ("b", "c"), ("a", "b", "c")]
    for made in sweep(experts, ["average"] * 3, subsets=subsets):
        alone = merge({name: experts[name] for name in made.experts}, "average")
        torch.testing.assert_close(dict(made.parameters), dict(alone), rtol=0, atol=0)


@pytest.mark.parametrize("variance", ["average", "total"])
def test_files_are_merged_as_tensors_are(tmp_path, variance):
    experts, _ = problem(seed=3)
    for name, tensors in experts.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    recipe = {
        "method": "average",
        "experts": {name: f"{name}.safetensors" for name in experts},
        "running_variance": variance,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["merge", str(tmp_path / "recipe.yaml"), str(tmp_path / "out")]) == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    expected = merge(experts, "average", running_variance=variance)
    torch.testing.assert_close(found, dict(expected), rtol=0, atol=0)
