"""MaTS for several recipes at once: what they share, what that costs, what is told."""

import logging
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.methods.conjugate_gradients import conjugate_gradients
from mergegrid.methods.matching import matching
from mergegrid.methods.mats import METHOD, mats, mats_all

COVARIANCES = ("inputs", "kfac", "diagonal")
every_covariance = pytest.mark.parametrize("covariance", COVARIANCES)


def layer(seed, covariance=None, experts=3, d_out=4, d_in=6, tokens=50):
    """The five tensors that the method takes; those alone that a covariance needs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    pretrained = normal(d_out, d_in)
    weights = pretrained + 0.3 * normal(experts, d_out, d_in)
    inputs = normal(experts, tokens, d_in) * torch.linspace(1, 3, d_in)
    outputs = normal(experts, tokens, d_out) * torch.linspace(0.5, 1, d_out)
    grams = inputs.mT @ inputs / tokens
    gradients = outputs.mT @ outputs / tokens
    fisher = 0.1 + normal(experts, d_out, d_in).square()
    tensors = (weights, pretrained, grams, gradients, fisher)
    return tensors if covariance is None else only_needed(tensors, covariance)


def only_needed(tensors, covariance):
    weights, pretrained, grams, gradients, fisher = tensors
    return (
        weights,
        pretrained,
        None if covariance == "diagonal" else grams,
        gradients if covariance == "kfac" else None,
        fisher if covariance == "diagonal" else None,
    )


def options(**given):
    return {name: METHOD.recipe(given).options[name] for name in METHOD.merged_options}


SWEEP = [
    {"iterations": 4},
    {"iterations": 1, "initial": "average"},
    {"iterations": 0},
    {"iterations": 40},
    {"iterations": 4},
    {"iterations": 1, "initial_scale": 0.1},
    {"iterations": 2, "initial": "average", "initial_scale": 0.3},
    {"iterations": 1},
]


@every_covariance
@pytest.mark.parametrize("seed", [0, 1])
def test_a_sweep_gives_exactly_what_merges_give_in_the_recipes_order(covariance, seed):
    tensors = [t if t is None else t.float() for t in layer(seed, covariance)]
    recipes = [options(**each, covariance=covariance) for each in SWEEP]
    swept = list(mats_all(*tensors, recipes=recipes))
    for merged, recipe in zip(swept, recipes, strict=True):
        assert torch.equal(merged, mats(*tensors, **recipe)), recipe


def test_a_sweep_may_mix_covariances():
    tensors = layer(seed=0)
    recipes = [
        options(covariance=covariance, iterations=iterations)
        for iterations in (2, 1)
        for covariance in COVARIANCES
    ]
    swept = list(mats_all(*tensors, recipes=recipes))
    for merged, recipe in zip(swept, recipes, strict=True):
        expected = mats(*only_needed(tensors, recipe["covariance"]), **recipe)
        assert torch.equal(merged, expected)


def test_results_do_not_share_memory():
    tensors = layer(seed=0)  # float64, so that nothing has to be cast
    recipes = [options(iterations=iterations) for iterations in (1, 1, 2)]
    first, same, last = mats_all(*tensors, recipes=recipes)
    kept = last.clone()
    first.fill_(0)
    assert same.any()
    assert torch.equal(last, kept)


@every_covariance
@pytest.mark.parametrize("seed", [0, 1])
def test_layers_of_one_shape_may_be_merged_at_once(covariance, seed):
    layers = [layer(seed, tokens=tokens) for tokens in (50, 2, 30)]
    # One that has nothing to do, and one that is finished long before the others.
    layers += [[0 * tensor for tensor in layers[0]]]
    layers[0][0][:] = layers[0][0][0]
    together = [
        torch.stack(tensors, dim=0 if index == 1 else 1)
        for index, tensors in enumerate(zip(*layers, strict=True))
    ]
    recipes = [
        options(iterations=iterations, initial="average", covariance=covariance)
        for iterations in (0, 3, 60)
    ]
    swept = mats_all(*only_needed(together, covariance), recipes=recipes)
    for merged, recipe in zip(swept, recipes, strict=True):
        for found, tensors in zip(merged, layers, strict=True):
            expected = mats(*only_needed(tensors, covariance), **recipe)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ends", [(10, 20, 30), (30, 10, 20)])
def test_a_sweep_over_iterations_costs_no_more_than_its_longest(ends):
    weights, pretrained, grams, *_ = layer(0, d_in=60)

    def counted(asked):
        recipes = [options(iterations=iterations) for iterations in asked]
        with FlopCounterMode(display=False) as counter:
            list(mats_all(weights, pretrained, grams, recipes=recipes))
        return counter.get_total_flops()

    assert counted(ends) == counted([30]) > counted([20])


def test_sums_over_experts_are_shared_by_all_starts():
    weights, pretrained, grams, *_ = layer(0)
    recipes = [
        options(iterations=0, initial_scale=scale) for scale in (0.1, 0.2, 0.3, 0.4)
    ]
    with FlopCounterMode(display=False) as counter:
        list(mats_all(weights, pretrained, grams, recipes=recipes))
    assert counter.get_total_flops() == 2 * (3 + 4) * 4 * 6**2


def test_residuals_are_logged_for_those_who_ask(caplog):
    weights, pretrained, grams, *_ = layer(seed=0)
    recipes = [options(iterations=iterations) for iterations in (2, 3)]
    with caplog.at_level(logging.DEBUG, logger="mergegrid"):
        list(mats_all(weights, pretrained, grams, recipes=recipes))
    first, second = caplog.messages
    system, target = matching("inputs", weights, grams, None, None)
    start = pretrained + 0.4 * (weights - pretrained).sum(dim=0)
    _, residuals = conjugate_gradients(system, target, start, iterations=3)
    told = [f"{residual:.3g}" for residual in residuals.tolist()]
    assert first == f"mats: residuals from step 0 to at most 2: {' '.join(told[:3])}"
    assert second == f"mats: residuals from step 2 to at most 3: {' '.join(told[2:])}"


class HostReads(TorchDispatchMode):
    """Counts how often a number is waited for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@every_covariance
def test_the_host_hardly_ever_waits_for_the_device(covariance):
    tensors = layer(0, covariance, d_out=30, d_in=200, tokens=300)
    with HostReads() as reads:
        mats(*tensors, iterations=32, covariance=covariance)
    assert 1 <= reads.count <= 5


class Operations(TorchDispatchMode):
    """Counts additions and multiplications of float64, as they are made."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        each = {"add": 1, "sub": 1, "mul": 1, "sum": 1, "addcmul": 2, "dot": 2}
        if name in each and result.dtype == torch.float64:
            of = args[0] if name in {"sum", "dot"} else result
            self.count[name] += each[name] * of.numel()
        return result


@every_covariance
@pytest.mark.parametrize("iterations", [0, 1, 4])
@pytest.mark.parametrize("initial", ["task_arithmetic", "average"])
def test_flops_are_those_that_pytorch_counts(covariance, iterations, initial):
    # Wide enough for what is done once for a layer to be nothing.
    tensors = [tensor.float() for tensor in layer(0, experts=5, d_out=30, d_in=90)]
    recipe = options(iterations=iterations, initial=initial, covariance=covariance)
    with FlopCounterMode(display=False) as counter, Operations() as operations:
        mats(*only_needed(tensors, covariance), **recipe)
    products = counter.get_total_flops()
    system = {
        "inputs": 2 * 30 * 90**2,
        "kfac": 2 * 5 * (30 * 90**2 + 30**2 * 90),
        "diagonal": 0,
    }[covariance]
    targets = {"inputs": 5, "kfac": 1, "diagonal": 0}[covariance]
    assert products == (targets + 1 + iterations) * system
    entries = 30 * 90
    start = 5 * entries if initial == "average" else 11 * entries
    told = METHOD.flops((30, 90), 5, **recipe) - products - start
    # What is counted once more: the norms of the target and of the first residual, and
    # the sum of the task vectors, which is in the start.
    summing = 5 * entries if initial == "task_arithmetic" else 0
    counted = operations.count.total() - 4 * entries - summing
    assert told == pytest.approx(counted, rel=0.01)
