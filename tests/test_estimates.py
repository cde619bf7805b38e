import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.estimates import Estimates
from mergegrid.experiment_steps import build_steps
from mergegrid.models import get_family

SUITE = {
    "name": "glyphs",
    "categories": 2,
    "classes_per_category": 2,
    "layers": 1,
    "width": 32,
}
GRID = [{"methods": ["mlerp", "ties", "fisher", "regmean"]}]
TRAINING = {
    "pretrain": {"steps": 3, "batch_size": 5},
    "expert": {"steps": 2, "batch_size": 4},
    "multitask": {"steps": 7, "batch_size": 4},
}


@pytest.fixture
def estimates(experiment):
    small = experiment(suite=SUITE, grid=GRID, training=TRAINING)
    steps = build_steps(small)
    return small, steps, Estimates(small, steps.artifacts.values())


def counted(model, examples):
    batch = {
        "image": torch.zeros(examples, 3, 32, 32, dtype=torch.uint8),
        "label": torch.zeros(examples, dtype=torch.int64),
    }
    # PyTorch's counter does not know the processor's fused attention.
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain, FlopCounterMode(display=False) as counter:
        model(batch).sum().backward()
    return counter.get_total_flops()


def test_training_is_estimated_as_the_model_is_counted(estimates):
    small, steps, estimated = estimates
    suite = small.open_suite()
    family = get_family(suite.family)
    model = family.create(suite.architecture(), seed=0)
    assert estimated.of[steps.pretrained.key].flops == 3 * counted(model, 5)
    family.freeze(model)
    for step in steps.named("train"):
        assert estimated.of[step.key].flops == 2 * counted(model, 4)
    assert estimated.of[steps.named("multitask")[0].key].flops == 7 * counted(model, 4)


def test_every_step_has_an_estimate_of_its_size(estimates):
    _, steps, estimated = estimates
    assert set(estimated.of) == set(steps.artifacts)
    assert all(estimate.bytes > 0 for estimate in estimated.of.values())


def test_a_statistic_of_data_is_estimated_from_the_examples_there_are(experiment):
    def fisher(examples):
        settings = {"fisher": {"examples": examples}}
        small = experiment(suite=SUITE, grid=GRID, statistics=settings)
        steps = build_steps(small)
        estimated = Estimates(small, steps.artifacts.values())
        return [estimated.of[step.key] for step in steps.named("fisher")]

    few, more, all_there_are = fisher(2), fisher(4), fisher(10**6)
    for two, four, every in zip(few, more, all_there_are, strict=True):
        assert four.flops == 2 * two.flops
        assert every.examples == 12 * 2  # validation images per class x classes


def test_output_gradients_have_a_matrix_for_each_layers_outputs(experiment):
    options = {"covariance": "kfac", "iterations": 10, "initial_scale": 0.3}
    grid = [{"methods": [{"name": "mats", "options": options}]}]

    def estimate(**settings):
        small = experiment(suite=SUITE, grid=grid, statistics={"gradient": settings})
        steps = build_steps(small)
        estimated = Estimates(small, steps.artifacts.values())
        return estimated, estimated.of[steps.named("gradient")[0].key]

    estimated, four = estimate(examples=4)
    squares = sum(d_out**2 for d_out, _ in estimated.linear.values())
    assert four.bytes == 4 * squares
    assert four.examples == 4
    _, two = estimate(examples=2)
    assert four.flops == 2 * two.flops
    _, exact = estimate(examples=4, variant="exact")
    assert four.flops < exact.flops
