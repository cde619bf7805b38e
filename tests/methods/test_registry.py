"""What holds for every method; a new method is tested by being registered."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergegrid import merge, sweep
from mergegrid.errors import InputError, UnknownNameError
from mergegrid.methods import METHODS, get_method
from mergegrid.methods.needs import Coverage, Need

SHAPES = {
    "block.norm.weight": (4,),
    "block.proj.weight": (5, 4),
    "head.weight": (3, 5),
    "temperature": (),
}
LINEAR = ("block.proj.weight", "head.weight")

# Options with which a method returns what all experts agree on.
LOSSLESS = {
    "adamerging_pp": {"density": 1.0},
    "dare_ties": {"drop_rate": 0.0, "density": 1.0, "scale": 1.0},
    "della": {"drop_rate": 0.0, "window": 0.0, "scale": 1.0},
    "breadcrumbs": {"keep": 1.0, "outliers": 0.0, "scale": "1/M"},
    "consensus": {"agreement": 0, "mask_threshold": 0.5, "scale": "1/M"},
    "knots": {"merge_by": "linear", "scale": 1.0},
    "task_arithmetic": {"scale": "1/M"},
    "dare": {"drop_rate": 0.0, "scale": "1/M"},
    "ties": {"density": 1.0},
    "mats": {"initial_scale": "1/M"},
}

# Methods that return something else even then; their own tests say what.
LOSSY = {
    "iso_c", "iso_cts", "magnitude_masking", "magnitude_pruning", "pcb", "tall_masks",
    "tsv_m", "wudi",
}  # fmt: skip

# Selections that turn on the last digit.
SELECTING = {"dare", "dare_ties", "della", "ties"}

# Angles and norms are about the origin, which a translation moves.
ABOUT_THE_ORIGIN = {"slerp", "mlerp"}

# What `fingerprint` gives, by method and version. It may change only together with the
# version, which changes the key of every cell that used the method.
GOLDEN = {
    "average-v2": (0.276226, 0.157332, -1.76726, 0.524043, -0.365531, -1.6413),
    "slerp-v1": (0.208814, 1.03473, -0.593638, -3.30233, -0.547351, 0.136853),
    "mlerp-v1": (0.491247, 0.279803, -3.14294, 0.931971, -0.650069, -2.91893),
    "task_arithmetic-v3": (
        0.320798,
        -0.198799,
        -2.12936,
        0.407259,
        -0.374483,
        -1.79244,
    ),
    "dare-v3": (-4.55786, -3.68354, -1.40386, 0.270003, -0.249591, -2.55817),
    "ties-v3": (2.88098, 1.76291, -0.0126741, 2.30508, -4.53659, -1.94162),
    "dare_ties-v2": (-8.39166, -8.75552, -6.09425, 2.30411, -0.927717, -5.3443),
    "della-v2": (-5.39785, -0.406594, -7.03351, 0.972666, -5.82507, -5.10534),
    "breadcrumbs-v2": (-0.336899, -0.212112, 0.202022, 2.21003, -2.73383, -3.26331),
    "model_stock-v2": (0.22437, 0.571669, -1.34599, 0.659916, -0.355116, -1.46547),
    "pcb-v2": (-1.80872, 2.40517, 0.971503, -3.15973, -1.07216, -3.20522),
    "consensus-v2": (-2.1176, -0.309284, -3.50403, 0.762078, -0.683508, -2.25058),
    "tall_masks-v2": (-5.05682, -11.7106, 0.0889359, -4.27613, 6.02299, -13.1108),
    "magnitude_masking-v2": (-1.54827, -0.953577, 5.74084, -15.7739, 4.40203, -2.46188),
    "magnitude_pruning-v2": (-0.730135, 0.727375, 2.23874, -5.76986, 1.24126, -1.89231),
    "emr-v2": (1.56449, -0.646736, -2.41103, -0.441872, 0.269557, -4.22333),
    "tsv_m-v2": (-0.266843, -3.45068, 3.30921, 3.14107, -1.44385, -1.95851),
    "iso_c-v2": (-5.20229, -0.8691, 3.03815, 4.50887, -1.29526, -10.0994),
    "iso_cts-v2": (6.0734, -7.86185, -2.28676, 5.88263, -4.27897, -3.80641),
    "wudi-v2": (5.68523, -2.01043, -0.859525, -4.42463, 2.31356, -1.66271),
    "knots-v2": (-0.711609, 1.98434, -2.62616, -0.811203, 0.206497, -2.13247),
    "fisher-v1": (1.90147, -0.178521, -2.23539, 0.601742, 0.62115, -2.08495),
    "regmean-v1": (0.997892, -2.42581, -3.01928, -1.09306, 0.620011, -2.1067),
    "mats-v1": (1.12286, -2.94143, -3.10271, -1.34597, 0.703633, -2.17653),
    "supermerge-v1": (0.562913, 1.39716, -0.554132, 2.31986, 1.58106, -5.58947),
    "hierarchical_supermerge-v1": (
        0.562913,
        1.39716,
        -0.554132,
        2.31986,
        1.58106,
        -5.58947,
    ),
    "adamerging-v1": (0.562913, 1.39716, -0.554132, 2.31986, 1.58106, -5.58947),
    "adamerging_pp-v1": (-0.256671, 2.63212, 2.43275, 2.34259, -1.95178, -2.66981),
}

every_method = pytest.mark.parametrize("name", METHODS)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=8)  # for every method, so many problems


def number_of_experts(name):
    return 2 if METHODS[name].experts[1] == 2 else 3


def normal(shape, generator, scale=1.0):
    return scale * torch.randn(shape, generator=generator)


def problem(name, seed, spread=0.1):
    generator = torch.Generator().manual_seed(seed)
    pretrained = {key: normal(shape, generator) for key, shape in SHAPES.items()}
    experts = {
        f"expert {index}": {
            key: pretrained[key] + normal(shape, generator, spread)
            for key, shape in SHAPES.items()
        }
        for index in range(number_of_experts(name))
    }
    inputs = {key: normal((30, SHAPES[key][1]), generator) for key in LINEAR}
    statistics = {
        Need.FISHER: {
            expert: {
                key: normal(shape, generator) ** 2 for key, shape in SHAPES.items()
            }
            for expert in experts
        },
        Need.GRAM: {
            expert: {
                key: (x := inputs[key] + normal(inputs[key].shape, generator, 0.5)).mT
                @ x
                / len(x)
                for key in LINEAR
            }
            for expert in experts
        },
        # What every expert has in common is kept, and experts may change places.
        Need.COEFFICIENTS: {
            "all": {
                key: torch.full((len(experts),), 1 / len(experts)) for key in SHAPES
            }
        },
    }
    return experts, pretrained, statistics


def recipe(name, **options):
    number = number_of_experts(name)
    resolved = {
        key: 1 / number if value == "1/M" else value for key, value in options.items()
    }
    return get_method(name).recipe(resolved)


def merged_model(experts, chosen, pretrained, statistics=None, **rest):
    """Merge; of methods that yield a model for each task, take the first expert's."""
    named = chosen if isinstance(chosen, str) else chosen.method
    task = min(experts) if METHODS[named].per_task else None
    return merge(experts, chosen, pretrained, statistics, task=task, **rest)


def mapped(function, *models):
    return {key: function(*(model[key] for model in models)) for key in models[0]}


def assert_close(actual, expected, **tolerance):
    torch.testing.assert_close(dict(actual), dict(expected), **tolerance)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - LOSSY))
@few
@given(seed=seeds)
def test_experts_that_hardly_differ_are_hardly_changed(name, seed):
    # Not equal ones: the engine copies those, and the method would not be tested.
    experts, pretrained, statistics = problem(name, seed)
    common = experts["expert 0"]
    for index, expert in enumerate(experts):
        experts[expert] = mapped(
            lambda tensor, i=index: tensor * (1 + i * 1e-6), common
        )
    merged = merged_model(
        experts, recipe(name, **LOSSLESS.get(name, {})), pretrained, statistics
    )
    assert_close(merged, common, rtol=1e-4, atol=1e-5)


@every_method
@few
@given(seed=seeds)
def test_order_of_experts_does_not_matter(name, seed):
    experts, pretrained, statistics = problem(name, seed)
    reverse = dict(reversed(experts.items()))
    assert_close(
        merged_model(reverse, name, pretrained, statistics),
        merged_model(experts, name, pretrained, statistics),
    )


@every_method
@few
@given(seed=seeds)
def test_order_of_parameters_does_not_matter(name, seed):
    experts, pretrained, statistics = problem(name, seed)
    reverse = {
        expert: dict(reversed(parameters.items()))
        for expert, parameters in experts.items()
    }
    merged = merged_model(reverse, name, pretrained, statistics)
    expected = merged_model(experts, name, pretrained, statistics)
    assert_close(merged, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - ABOUT_THE_ORIGIN))
@few
@given(seed=seeds)
def test_moving_all_models_moves_the_merged_model(name, seed):
    experts, pretrained, statistics = problem(name, seed)
    # The tolerance is for TIES: rounding may reorder entries, which a gap prevents.
    shift = {key: torch.full(shape, 0.5) for key, shape in SHAPES.items()}
    moved = {
        expert: mapped(torch.add, model, shift) for expert, model in experts.items()
    }
    merged = merged_model(moved, name, mapped(torch.add, pretrained, shift), statistics)
    expected = mapped(
        torch.add, merged_model(experts, name, pretrained, statistics), shift
    )
    assert_close(merged, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"pcb"}))  # it has a tanh
@few
@given(seed=seeds)
def test_doubling_all_models_doubles_the_merged_model(name, seed):
    experts, pretrained, statistics = problem(name, seed)

    def double(model):
        return mapped(lambda tensor: 2 * tensor, model)

    doubled = {expert: double(model) for expert, model in experts.items()}
    assert_close(
        merged_model(doubled, name, double(pretrained), statistics),
        double(merged_model(experts, name, pretrained, statistics)),
    )


@every_method
@few
@given(seed=seeds, factor=st.floats(1e-3, 1e3))
def test_a_common_factor_on_all_statistics_does_not_matter(name, seed, factor):
    experts, pretrained, statistics = problem(name, seed)
    learned = {Need.COEFFICIENTS: statistics.pop(Need.COEFFICIENTS)}
    scaled = {
        need: {
            expert: mapped(lambda tensor: factor * tensor, tensors)
            for expert, tensors in by_expert.items()
        }
        for need, by_expert in statistics.items()
    }
    assert_close(
        merged_model(experts, name, pretrained, scaled | learned),
        merged_model(experts, name, pretrained, statistics | learned),
    )


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"pcb"}))  # counts entries
@few
@given(seed=seeds)
def test_frozen_parameters_beside_the_others_do_not_matter(name, seed):
    experts, pretrained, statistics = problem(name, seed)
    # Trimming counts every parameter, as the paper does: keep the number it keeps.
    trims = METHODS[name].density is not None
    options = {"density": 0.5} if trims else {}
    frozen = {"frozen": torch.linspace(-9, 9, sum(map(math.prod, SHAPES.values())))}
    larger = {expert: {**model, **frozen} for expert, model in experts.items()}
    half = {"density": 0.25} if trims else {}
    merged = dict(
        merged_model(larger, recipe(name, **half), {**pretrained, **frozen}, statistics)
    )
    assert torch.equal(merged.pop("frozen"), frozen["frozen"])
    assert_close(
        merged, merged_model(experts, recipe(name, **options), pretrained, statistics)
    )


@pytest.mark.parametrize(
    "name",
    # Without a scope, what is trimmed is always the whole model.
    [name for name, method in METHODS.items() if method.scope or not method.density],
)
@few
@given(seed=seeds)
def test_tensors_one_by_one_are_merged_as_all_together(name, seed):
    experts, pretrained, statistics = problem(name, seed)
    method = METHODS[name]
    chosen = recipe(name, **({"scope": "tensor"} if method.scope else {}))
    together = merged_model(experts, chosen, pretrained, statistics)
    # A tensor by itself is a whole model.
    by_itself = recipe(name)
    for key in LINEAR if method.coverage is Coverage.LINEAR else SHAPES:
        single = merged_model(
            {expert: {key: model[key]} for expert, model in experts.items()},
            by_itself,
            {key: pretrained[key]},
            {
                need: {
                    expert: {key: tensors[key]} if key in tensors else {}
                    for expert, tensors in by_expert.items()
                }
                for need, by_expert in statistics.items()
            },
        )
        assert torch.equal(single[key], together[key])


@every_method
def test_inputs_are_untouched(name):
    experts, pretrained, statistics = problem(name, seed=1)
    before = problem(name, seed=1)
    for tensor in merged_model(experts, name, pretrained, statistics).values():
        tensor.fill_(torch.pi)
    for kept, expected in zip((experts, pretrained, statistics), before, strict=True):
        torch.testing.assert_close(kept, expected, rtol=0, atol=0)


@every_method
@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64]
)
def test_shapes_and_types_are_kept(name, dtype):
    experts, pretrained, statistics = problem(name, seed=2)

    def cast(model):
        return mapped(lambda tensor: tensor.to(dtype), model)

    merged = merged_model(
        {expert: cast(model) for expert, model in experts.items()},
        name,
        cast(pretrained),
        statistics,
    )
    assert {key: tuple(value.shape) for key, value in merged.items()} == SHAPES
    assert {value.dtype for value in merged.values()} == {dtype}
    exact = merged_model(experts, name, pretrained, statistics)
    tolerance = {torch.bfloat16: 0.1, torch.float16: 0.02}.get(dtype, 1e-5)
    if name not in SELECTING:
        assert_close(cast(merged), cast(exact), rtol=tolerance, atol=tolerance)


@every_method
def test_a_sweep_returns_exactly_what_merges_return(name):
    experts, pretrained, statistics = problem(name, seed=3)
    method = METHODS[name]
    recipes = [method.recipe()]
    for option, values in method.sweep.items():
        recipes += [
            method.recipe({option: value})
            for value in values
            if not isinstance(value, str)
        ]
    swept = list(sweep(experts, recipes, pretrained, statistics, seed=5))
    assert {str(made.recipe.identity()) for made in swept} == {
        str(asked.identity()) for asked in recipes
    }
    for made in swept:
        expected = merge(
            experts, made.recipe, pretrained, statistics, seed=5, task=made.task
        )
        assert_close(made.parameters, expected, rtol=0, atol=0)


@every_method
def test_an_option_at_its_default_is_the_same_recipe_as_none(name):
    defaults = METHODS[name].recipe()
    assert METHODS[name].recipe(defaults.options) == defaults


@every_method
def test_every_option_is_described(name):
    for option, schema in METHODS[name].options.model_fields.items():
        assert schema.description, option


@every_method
def test_the_default_sweep_is_within_the_options(name):
    for option, values in METHODS[name].sweep.items():
        for value in values:
            if not isinstance(value, str):
                METHODS[name].recipe({option: value})


def fingerprint(name):
    """Merge what is always the same; six sums, in which no two entries weigh alike."""
    wave = torch.sin(torch.arange(200.0) ** 2)
    models = [{"layer.weight": part.view(6, 8)} for part in wave.split(48)[:4]]
    pretrained, *rest = models
    experts = {str(i): model for i, model in enumerate(rest[: number_of_experts(name)])}
    statistics = {
        Need.FISHER: {
            expert: {"layer.weight": model["layer.weight"] ** 2}
            for expert, model in experts.items()
        },
        Need.GRAM: {
            expert: {"layer.weight": model["layer.weight"].mT @ model["layer.weight"]}
            for expert, model in experts.items()
        },
        Need.COEFFICIENTS: {
            "all": {"layer.weight": torch.tensor([0.5, -0.25, 0.125])[: len(experts)]}
        },
    }
    merged = merged_model(experts, name, pretrained, statistics)["layer.weight"]
    marks = torch.cos(torch.arange(6 * 48.0) ** 2).view(6, 48)
    return marks.double() @ merged.double().flatten()


@every_method
def test_numbers_are_those_recorded_for_this_version(name):
    recorded = torch.tensor(GOLDEN[f"{name}-v{METHODS[name].version}"]).double()
    torch.testing.assert_close(fingerprint(name), recorded, rtol=1e-5, atol=1e-5)


def test_no_two_methods_have_the_same_numbers():
    # Methods that differ in how coefficients are learned merge with them alike.
    different = {(method.merge, method.sparsify) for method in METHODS.values()}
    assert len({*GOLDEN.values()}) == len(different)
    assert len(GOLDEN) == len(METHODS)


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'regmean'"):
        get_method("reg_mean")


def test_an_unknown_option_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"option of ties 'desnity'.*'density'"):
        get_method("ties").recipe({"desnity": 0.2})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ties", {"density": 0.0}),
        ("ties", {"density": 20}),
        ("ties", {"zero_sum": "minority"}),
        ("ties", {"scope": "layer"}),
        ("ties", {"scale": math.inf}),
        ("dare", {"drop_rate": 1.0}),
        ("dare", {"drop_rate": -0.1}),
        ("slerp", {"t": 1.5}),
        ("regmean", {"off_diagonal": 1.01}),
        ("regmean", {"ridge": math.nan}),
        ("mats", {"iterations": -1}),
        ("mats", {"iterations": 2.5}),
        ("fisher", {"floor": -1.0}),
        ("average", {"weights": (1.0, math.inf)}),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(name, options):
    (option,) = options
    with pytest.raises(InputError, match=f"{name}: {option} = "):
        get_method(name).recipe(options)
