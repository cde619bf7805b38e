"""What must hold for some methods, and must not for others, through `mergegrid.merge`.

What holds for every method is in `test_registry.py`; what is one method's own, in its
file.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergegrid import METHODS, merge
from mergegrid.methods.needs import Need

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=3)
SHAPES = {"layers.0.weight": (9, 10), "layers.1.weight": (12, 9)}


def problem(seed, number=3):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    pretrained = {name: normal(*shape) for name, shape in SHAPES.items()}
    common = {name: normal(*shape) for name, shape in SHAPES.items()}
    experts, fisher, grams = {}, {}, {}
    for expert in "abcd"[:number]:
        experts[expert] = {
            name: pretrained[name] + 0.3 * (common[name] + normal(*shape))
            for name, shape in SHAPES.items()
        }
        fisher[expert] = {n: normal(*shape) ** 2 for n, shape in SHAPES.items()}
        inputs = {n: normal(40, shape[1]) for n, shape in SHAPES.items()}
        grams[expert] = {n: x.mT @ x / 40 for n, x in inputs.items()}
    return experts, pretrained, {Need.FISHER: fisher, Need.GRAM: grams}


def merged(experts, pretrained, statistics, method, **options):
    task = "a" if METHODS[method].per_task else None
    recipe = METHODS[method].recipe(options)
    return merge(experts, recipe, pretrained, statistics, task=task)


def is_close(one, other):
    return all(
        torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-5) for name in SHAPES
    )


# What an expert that learned nothing does not change. To the others it is an expert:
# a mean has one more, shares of rank and of competition are smaller.
BLIND_TO_THE_PRETRAINED = {
    "breadcrumbs", "consensus", "dare", "dare_ties", "della", "emr", "iso_c", "knots",
    "magnitude_masking", "magnitude_pruning", "tall_masks", "task_arithmetic", "ties",
    "wudi",
}  # fmt: skip


# Learned coefficients are those of one set of experts.
CLOSED_FORM = {name for name, method in METHODS.items() if method.learning is None}


@pytest.mark.parametrize("method", sorted(CLOSED_FORM - {"slerp"}))
@few
@given(seed=seeds)
def test_the_pretrained_model_as_one_more_expert(method, seed):
    experts, pretrained, statistics = problem(seed)
    for of_experts in statistics.values():
        of_experts["d"] = of_experts["a"]
    found = merged({**experts, "d": pretrained}, pretrained, statistics, method)
    expected = merged(experts, pretrained, statistics, method)
    assert is_close(found, expected) is (method in BLIND_TO_THE_PRETRAINED)


def copies(seed, number):
    experts, pretrained, statistics = problem(seed, number)
    return dict.fromkeys(experts, experts["a"]), pretrained, statistics


@pytest.mark.parametrize(
    ("method", "options", "is_returned"),
    [
        ("average", {}, True),
        ("slerp", {}, True),
        ("mlerp", {}, True),
        ("fisher", {}, True),
        ("regmean", {"off_diagonal": 1.0}, True),
        ("mats", {}, True),
        ("model_stock", {}, True),
        ("emr", {}, True),
        ("wudi", {}, True),
        ("knots", {"merge_by": "linear", "scale": 1.0}, True),
        ("ties", {"density": 1.0}, True),
        ("task_arithmetic", {"scale": 1 / 3}, True),
        ("dare", {"scale": 1 / 3, "drop_rate": 0.0}, True),
        ("tall_masks", {"mask_threshold": 0.45, "scale": 1 / 3}, True),
        ("tall_masks", {"mask_threshold": 0.55, "scale": 1 / 3}, False),
        ("dare", {"scale": 1 / 3, "drop_rate": 0.5}, False),
        ("task_arithmetic", {"scale": 0.5}, False),
        ("task_arithmetic", {"scale": 1 / 3, "depth_scale": 0.2}, False),
        ("ties", {"density": 0.5}, False),
        ("ties", {"density": 1.0, "aggregate": "sum"}, False),
        ("tsv_m", {}, False),
        ("iso_c", {"scale": 1 / 3}, False),
        ("iso_cts", {"scale": 1 / 3}, False),
        ("pcb", {"scale": 1.0}, False),
        ("knots", {"scale": 1.0}, False),
    ],
)
@few
@given(seed=seeds)
def test_copies_of_one_expert(method, options, is_returned, seed):
    number = METHODS[method].experts[1] or 3
    experts, pretrained, statistics = copies(seed, number)
    found = merged(experts, pretrained, statistics, method, **options)
    assert is_close(found, experts["a"]) is is_returned


@pytest.mark.parametrize(
    ("method", "options", "is_returned"),
    [
        ("average", {}, True),
        ("mlerp", {}, True),
        ("fisher", {}, True),
        ("regmean", {}, True),
        ("model_stock", {}, True),
        ("tsv_m", {}, True),
        ("emr", {}, True),
        ("wudi", {}, True),
        ("tall_masks", {}, True),
        ("task_arithmetic", {"scale": 1.0}, True),
        ("ties", {"density": 1.0}, True),
        ("task_arithmetic", {}, False),
        ("ties", {}, False),
        ("iso_c", {}, False),
        ("iso_cts", {}, False),
        ("consensus", {"scale": 1.0}, False),
    ],
)
@few
@given(seed=seeds)
def test_a_single_expert(method, options, is_returned, seed):
    experts, pretrained, statistics = problem(seed, number=1)
    found = merged(experts, pretrained, statistics, method, **options)
    assert is_close(found, experts["a"]) is is_returned


@few
@given(seed=seeds, density=st.sampled_from([0.1, 0.5]))
def test_ties_of_copies_is_the_pretrained_model_and_what_was_not_trimmed(seed, density):
    experts, pretrained, _ = copies(seed, 3)
    found = merged(experts, pretrained, {}, "ties", density=density)
    changes = torch.cat(
        [(experts["a"][n] - pretrained[n]).reshape(-1) for n in sorted(SHAPES)]
    )
    order = changes.abs().argsort(descending=True, stable=True)
    kept = torch.zeros_like(changes)
    chosen = order[: int(density * len(changes))]
    kept[chosen] = changes[chosen]
    moved = torch.cat([(found[n] - pretrained[n]).reshape(-1) for n in sorted(SHAPES)])
    torch.testing.assert_close(moved, kept, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "is_moved"),
    [("average", True), ("model_stock", True), ("slerp", False), ("mlerp", False)],
)
@few
@given(seed=seeds)
def test_moving_all_models(method, is_moved, seed):
    experts, pretrained, statistics = problem(seed, METHODS[method].experts[1] or 3)

    def moved(model):
        return {name: tensor + 0.5 for name, tensor in model.items()}

    found = merged(
        {expert: moved(model) for expert, model in experts.items()},
        moved(pretrained),
        statistics,
        method,
    )
    expected = moved(merged(experts, pretrained, statistics, method))
    assert is_close(found, expected) is is_moved


@pytest.mark.parametrize("method", ["slerp", "mlerp", "average", "fisher", "regmean"])
@few
@given(seed=seeds, factor=st.sampled_from([1e-3, 3.0, 1e3]))
def test_stretching_all_models_stretches_the_result(method, seed, factor):
    experts, pretrained, statistics = problem(seed, METHODS[method].experts[1] or 3)

    def stretched(model):
        return {name: factor * tensor for name, tensor in model.items()}

    found = merged(
        {expert: stretched(model) for expert, model in experts.items()},
        stretched(pretrained),
        statistics,
        method,
    )
    expected = merged(experts, pretrained, statistics, method)
    for name, tensor in found.items():
        torch.testing.assert_close(
            tensor / factor, expected[name], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("off_diagonal", [0.0, 0.5, 0.9, 1.0])
@few
@given(seed=seeds)
def test_turning_the_inputs_of_a_layer_turns_regmean_at_one_alone(off_diagonal, seed):
    experts, pretrained, statistics = problem(seed)
    generator = torch.Generator().manual_seed(seed)
    turns = {
        name: torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
        for name, (_, d) in SHAPES.items()
    }
    found = transformed_regmean(experts, pretrained, statistics, turns, off_diagonal)
    expected = merged(
        experts, pretrained, statistics, "regmean", off_diagonal=off_diagonal
    )
    turned = {name: expected[name] @ turn for name, turn in turns.items()}
    assert is_close(found, turned) is (off_diagonal == 1.0)


@pytest.mark.parametrize("off_diagonal", [0.0, 0.9, 1.0])
@few
@given(seed=seeds, order=st.permutations(range(10)))
def test_the_order_of_the_inputs_of_a_layer_does_not_matter(off_diagonal, seed, order):
    experts, pretrained, statistics = problem(seed)
    name = "layers.0.weight"
    orders = {name: torch.eye(10)[order], "layers.1.weight": torch.eye(9)}
    found = transformed_regmean(experts, pretrained, statistics, orders, off_diagonal)
    expected = merged(
        experts, pretrained, statistics, "regmean", off_diagonal=off_diagonal
    )
    torch.testing.assert_close(
        found[name], expected[name] @ orders[name], rtol=1e-4, atol=1e-5
    )


def transformed_regmean(experts, pretrained, statistics, matrices, off_diagonal):
    """Merge with every layer's inputs x replaced by x times an orthogonal matrix."""
    grams = {
        expert: {n: q.mT @ of_expert[n] @ q for n, q in matrices.items()}
        for expert, of_expert in statistics[Need.GRAM].items()
    }
    turned = {
        expert: {n: model[n] @ q for n, q in matrices.items()}
        for expert, model in experts.items()
    }
    given_grams = {Need.GRAM: grams}
    return merged(turned, pretrained, given_grams, "regmean", off_diagonal=off_diagonal)


@few
@given(seed=seeds)
def test_the_norm_of_mlerp_is_the_largest_norm(seed):
    experts, pretrained, _ = problem(seed)

    def norm(model):
        return torch.cat([t.double().reshape(-1) for t in model.values()]).norm()

    found = merged(experts, pretrained, {}, "mlerp")
    largest = max(norm(model) for model in experts.values())
    assert float(norm(found)) == pytest.approx(float(largest), rel=1e-6)
