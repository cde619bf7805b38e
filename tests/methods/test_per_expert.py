"""Options with one value for each expert, in every method that has them."""

import pytest
import torch

from mergegrid import merge, sweep
from mergegrid.errors import InputError
from mergegrid.methods import METHODS, get_method
from mergegrid.methods.per_expert import spread

NAMES = ("a", "b", "c", "d")

# Values of four experts that make a difference to each, and what goes with them.
CASES = [
    ("average", {"weights": (1.0, 2.0, 0.5, 3.0)}),
    ("task_arithmetic", {"weights": (1.0, -0.5, 0.0, 2.0)}),
    ("ties", {"density": (0.1, 0.4, 1.0, 0.7)}),
    ("ties", {"density": (0.1, 0.4, 1.0, 0.7), "scope": "tensor"}),
    ("ties", {"density": (0.1, 0.4, 1.0, 0.7), "selection": "random"}),
    ("consensus", {"density": (0.1, 0.4, 1.0, 0.7), "merge_by": "ties"}),
    ("dare", {"drop_rate": (0.0, 0.4, 0.9, 0.7)}),
    ("dare", {"drop_rate": (0.0, 0.4, 0.9, 0.7), "rescale": "norm"}),
    ("dare", {"drop_rate": (0.0, 0.4, 0.9, 0.7), "rescale": "none"}),
    ("dare_ties", {"drop_rate": (0.0, 0.4, 0.9, 0.7), "density": (0.5, 0.3, 0.2, 1)}),
    ("della", {"drop_rate": (0.2, 0.4, 0.8, 0.6)}),
    ("della", {"window": (0.0, 0.1, 0.2, 0.3)}),
    ("breadcrumbs", {"keep": (0.1, 0.4, 1.0, 0.7)}),
    ("breadcrumbs", {"outliers": (0.0, 0.2, 0.4, 0.6), "extent": "tensor"}),
    ("fisher", {"coefficients": (1.0, 2.0, 0.5, 3.0)}),
    ("consensus", {"mask_threshold": (0.2, 0.4, 0.6, 0.8)}),
]

every_case = pytest.mark.parametrize(("method", "options"), CASES)


def problem():
    generator = torch.Generator().manual_seed(0)

    def model():
        return {
            "matrix": torch.randn(9, 40, generator=generator),
            "vector": torch.randn(30, generator=generator),
        }

    pretrained = model()
    experts = {name: model() for name in NAMES}
    fisher = {name: {key: x**2 for key, x in model().items()} for name in NAMES}
    return experts, pretrained, {"fisher": fisher}


def of(experts, options):
    """Take the values of some of the experts."""
    places = [NAMES.index(expert) for expert in experts]
    return {
        name: tuple(value[place] for place in places)
        if isinstance(value, tuple)
        else value
        for name, value in options.items()
    }


def assert_equal(merged, expected):
    torch.testing.assert_close(dict(merged), dict(expected), rtol=0, atol=0)


def test_every_option_of_its_kind_is_tested_here():
    tested = {(method, name) for method, options in CASES for name in options}
    untested = {
        (method, name)
        for method, of_method in METHODS.items()
        for name in of_method.per_expert - {"weights", "density", "mask_threshold"}
        if (method, name) not in tested
    }
    assert not untested


@every_case
def test_equal_values_are_the_same_as_one(method, options):
    experts, pretrained, statistics = problem()
    for name, values in options.items():
        if not isinstance(values, tuple) or name in {"weights", "coefficients"}:
            continue
        one = {**options, name: values[1]}
        each = {**options, name: (values[1],) * 4}
        assert_equal(
            merge(experts, recipe(method, each), pretrained, statistics),
            merge(experts, recipe(method, one), pretrained, statistics),
        )


def recipe(method, options):
    return {"method": method, "options": options}


@every_case
def test_values_go_with_their_experts(method, options):
    experts, pretrained, statistics = problem()
    merged = merge(experts, recipe(method, options), pretrained, statistics)
    order = ("c", "a", "d", "b")
    reordered = merge(
        {name: experts[name] for name in order},
        recipe(method, of(order, options)),
        pretrained,
        statistics,
    )
    torch.testing.assert_close(dict(reordered), dict(merged))
    others = {
        name: value[::-1] if isinstance(value, tuple) else value
        for name, value in options.items()
    }
    other = merge(experts, recipe(method, others), pretrained, statistics)
    assert not torch.allclose(other["matrix"], merged["matrix"])


@every_case
def test_subsets_of_a_sweep_have_the_values_of_their_own_experts(method, options):
    experts, pretrained, statistics = problem()
    subsets = [NAMES, ("b", "d"), ("a", "c", "d")]
    recipes = [recipe(method, of(subset, options)) for subset in subsets]
    swept = sweep(experts, recipes, pretrained, statistics, subsets=subsets)
    made = {model.experts: model.parameters for model in swept}
    for subset, asked in zip(subsets, recipes, strict=True):
        chosen = {name: experts[name] for name in subset}
        assert_equal(made[subset], merge(chosen, asked, pretrained, statistics))


@every_case
def test_another_number_of_values_is_refused_by_name(method, options):
    experts, pretrained, statistics = problem()
    for name, values in options.items():
        if not isinstance(values, tuple):
            continue
        for wrong, number in ((values[:3], "3 values"), (values[:1], "1 value")):
            chosen = recipe(method, {**options, name: wrong})
            with pytest.raises(InputError, match=f"4 experts, but {number} of {name}"):
                merge(experts, chosen, pretrained, statistics)


def test_a_value_out_of_range_is_named():
    with pytest.raises(InputError, match=r"density = \(0.2, 1.5\) .* equal to 1\."):
        get_method("ties").recipe({"density": (0.2, 1.5)})


def test_experts_that_are_not_merged_have_any_value():
    assert spread((0.1, 0.2), (1, 3), 5) == (0.1, 0.1, 0.1, 0.2, 0.1)
    assert spread((0.1, 0.1), (1, 3), 5) == 0.1
