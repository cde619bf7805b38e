import logging

import pytest
import torch

import mergegrid
from mergegrid import merge, sweep
from mergegrid.blocks import Block
from mergegrid.engine import read_recipe
from mergegrid.errors import (
    InputError,
    LayoutError,
    MissingPrerequisiteError,
    NonFiniteError,
    UnknownNameError,
)
from mergegrid.methods import METHODS
from mergegrid.methods.method import Recipe
from mergegrid.methods.needs import Need
from mergegrid.statistics.trim import TrimThreshold

DATA_FREE = ("average", "mlerp", "task_arithmetic", "dare", "ties")


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def problem(number=2):
    pretrained = {"fc.bias": normal(3, seed=0), "fc.weight": normal(3, 4, seed=1)}
    experts = {
        f"e{index}": {
            name: tensor + 0.1 * normal(*tensor.shape, seed=10 * index + 20)
            for name, tensor in pretrained.items()
        }
        for index in range(number)
    }
    grams = {
        name: {"fc.weight": (x := normal(9, 4, seed=50 + index)).mT @ x}
        for index, name in enumerate(experts)
    }
    fisher = {
        name: {key: tensor**2 for key, tensor in expert.items()}
        for name, expert in experts.items()
    }
    return experts, pretrained, {Need.GRAM: grams, Need.FISHER: fisher}


def with_tensors(models, **tensors):
    return {
        name: {**model, **{key: value.clone() for key, value in tensors.items()}}
        for name, model in models.items()
    }


def test_the_public_surface_is_small():
    assert mergegrid.__all__ == ["METHODS", "get_method", "merge", "sweep"]


def test_a_recipe_may_be_a_name_a_mapping_or_a_recipe():
    experts, pretrained, _ = problem()
    forms = (
        "ties",
        {"method": "ties"},
        {"method": "ties", "options": {"density": 0.2}},
        METHODS["ties"].recipe(),
    )
    first, *others = (merge(experts, form, pretrained) for form in forms)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=0)


def test_experts_in_a_sequence_go_by_their_number():
    experts, pretrained, statistics = problem()
    numbered = dict(zip("01", experts.values(), strict=True))
    assert torch.equal(
        merge(list(experts.values()), "dare", pretrained)["fc.weight"],
        merge(numbered, "dare", pretrained)["fc.weight"],
    )
    with pytest.raises(MissingPrerequisiteError, match="expert '0'"):
        merge(list(experts.values()), "fisher", statistics=statistics)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("tise", "no merge method 'tise'. Did you mean 'ties'"),
        ({"options": {}}, "needs the name of its method"),
        ({"method": 3}, "needs the name of its method"),
        ({"method": "ties", "option": {}}, "key of a recipe 'option'.* 'options'"),
        ({"method": "ties", "options": [1]}, r"options of ties are no mapping: \[1\]"),
        ({"method": "ties", "version": 99}, "for version 99 of ties; this is version"),
        (Recipe("ties", 99, {}), "for version 99 of ties"),
        (
            Recipe("ties", METHODS["ties"].version, {"scales": 1}),
            "no option of ties 'scales'.*'scale'",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_with_what_is_right(recipe, message):
    with pytest.raises(InputError, match=message):
        read_recipe(recipe)


def test_no_expert_is_refused():
    with pytest.raises(InputError, match="at least one expert"):
        merge({}, "average")


@pytest.mark.parametrize("method", ["task_arithmetic", "dare", "ties", "mats"])
def test_a_missing_pretrained_model_is_named(method):
    experts, _, statistics = problem()
    with pytest.raises(
        MissingPrerequisiteError, match=f"{method} needs the pretrained"
    ):
        merge(experts, method, statistics=statistics)


def test_statistics_without_a_parameter_in_common_are_no_statistics():
    experts, _, statistics = problem()
    del statistics[Need.FISHER]["e0"]["fc.bias"]
    del statistics[Need.FISHER]["e1"]["fc.weight"]
    with pytest.raises(MissingPrerequisiteError, match="no parameter has a fisher"):
        merge(experts, "fisher", statistics=statistics)


def test_a_gram_of_the_wrong_width_is_refused():
    experts, _, statistics = problem()
    statistics[Need.GRAM]["e1"]["fc.weight"] = torch.eye(3)
    message = r"'fc.weight' with shape \(3, 3\), instead of \(4, 4\)"
    with pytest.raises(LayoutError, match=message):
        merge(experts, "regmean", statistics=statistics)


def test_a_gram_of_a_vector_is_refused():
    experts, _, statistics = problem()
    statistics[Need.GRAM]["e1"]["fc.bias"] = torch.eye(3)
    with pytest.raises(LayoutError, match=r"'fc.bias', which is no weight of a linear"):
        merge(experts, "regmean", statistics=statistics)


def test_a_statistic_that_is_not_finite_is_refused():
    experts, _, statistics = problem()
    statistics[Need.FISHER]["e1"]["fc.bias"][0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"fisher .* 'e1' .* 'fc.bias'"):
        merge(experts, "fisher", statistics=statistics)


def test_a_pretrained_model_of_another_layout_is_refused():
    experts, pretrained, _ = problem()
    del pretrained["fc.bias"]
    with pytest.raises(LayoutError, match="pretrained model has not"):
        merge(experts, "ties", pretrained)


@pytest.mark.parametrize("method", METHODS)
def test_equal_experts_are_returned_bit_for_bit_unless_pretrained_counts(method):
    _, pretrained, _ = problem()
    experts = {"a": pretrained, "b": pretrained}
    statistics = {
        Need.FISHER: {e: {k: v**2 for k, v in pretrained.items()} for e in experts},
        Need.GRAM: {e: {"fc.weight": torch.eye(4)} for e in experts},
        Need.COEFFICIENTS: {"all": dict.fromkeys(pretrained, torch.tensor([0.7, 0.2]))},
    }
    task = "a" if METHODS[method].per_task else None
    merged = merge(experts, method, pretrained, statistics, task=task)
    torch.testing.assert_close(merged, dict(pretrained), rtol=0, atol=0)


@pytest.mark.parametrize("method", ["average", "slerp", "mlerp", "fisher", "regmean"])
def test_experts_that_agree_differ_from_a_pretrained_model_that_is_not_read(method):
    experts, pretrained, statistics = problem()
    twice = {"e0": experts["e0"], "e1": experts["e0"]}
    merged = merge(twice, method, pretrained, statistics)
    torch.testing.assert_close(merged, experts["e0"], rtol=0, atol=0)


def test_experts_that_agree_still_add_up_their_task_vectors():
    experts, pretrained, _ = problem()
    twice = [experts["e0"], experts["e0"]]
    recipe = {"method": "task_arithmetic", "options": {"scale": 1}}
    for name, tensor in merge(twice, recipe, pretrained).items():
        task_vector = experts["e0"][name] - pretrained[name]
        torch.testing.assert_close(tensor, pretrained[name] + 2 * task_vector)


@pytest.mark.parametrize("method", ["average", "mlerp", "fisher", "regmean"])
def test_a_single_expert_is_returned(method):
    experts, pretrained, statistics = problem(number=1)
    merged = merge(experts, method, pretrained, statistics)
    torch.testing.assert_close(merged, experts["e0"], rtol=0, atol=0)


@pytest.mark.parametrize("method", ["regmean", "mats"])
def test_parameters_without_a_gram_are_averaged_and_listed(method, caplog):
    experts, pretrained, statistics = problem()
    with caplog.at_level(logging.DEBUG, logger="mergegrid"):
        merged = merge(experts, method, pretrained, statistics)
    average = merge(experts, "average")
    torch.testing.assert_close(merged["fc.bias"], average["fc.bias"])
    assert not torch.isclose(merged["fc.weight"], average["fc.weight"]).any()
    assert f"{method} averages what has no gram statistic: fc.bias" in caplog.messages


def test_batch_counters_come_from_the_pretrained_model():
    experts, pretrained, _ = problem()
    for count, expert in enumerate(experts.values()):
        expert["bn.num_batches_tracked"] = torch.tensor(count)
    base = {**pretrained, "bn.num_batches_tracked": torch.tensor(7)}
    assert merge(experts, "ties", base)["bn.num_batches_tracked"] == 7
    assert merge(experts, "average")["bn.num_batches_tracked"] == 0


@pytest.mark.parametrize("method", [*DATA_FREE, "fisher"])
def test_a_tied_tensor_is_merged_once_and_stays_tied(method):
    experts, pretrained, statistics = problem()
    expected = merge(experts, method, pretrained, statistics)
    for tied in (pretrained, *experts.values()):
        tied["lm_head.weight"] = tied["fc.weight"]
    for tensors in statistics[Need.FISHER].values():
        # As measured by a family whose first name for the tensor is the other one.
        tensors["lm_head.weight"] = tensors.pop("fc.weight")
    merged = dict(merge(experts, method, pretrained, statistics))
    assert merged["lm_head.weight"] is merged["fc.weight"]
    del merged["lm_head.weight"]
    torch.testing.assert_close(merged, dict(expected), rtol=0, atol=0)


def test_thresholds_may_name_a_tied_tensor_otherwise():
    pretrained = {"a": torch.zeros(4)}
    expert = {"a": torch.ones(4)}  # all magnitudes equal: which are kept is counted
    for tied in (pretrained, expert):
        tied["b"] = tied["a"]
    measured = {"0": {0.5: TrimThreshold(1.0, {"b": 2})}}
    recipe = {"method": "ties", "options": {"density": 0.5}}
    merged = merge([expert], recipe, pretrained, {Need.TRIM: measured})
    assert merged["a"].tolist() == [1, 1, 0, 0]


def test_a_merged_model_shares_no_memory_with_its_experts():
    experts, pretrained, _ = problem()
    experts = with_tensors(experts, frozen=torch.ones(2), ids=torch.arange(2))
    base = {**pretrained, "frozen": torch.ones(2), "ids": torch.arange(2)}
    merged = merge(experts, "ties", base)
    memory = {
        tensor.data_ptr()
        for model in (base, *experts.values())
        for tensor in model.values()
    }
    assert not memory & {tensor.data_ptr() for tensor in merged.values()}


def test_recipes_that_differ_in_scale_share_one_merge(monkeypatch):
    experts, pretrained, _ = problem()
    calls = []
    subtract = Block.raw_task_vectors

    def counted(block):
        if "task_vectors" not in block._found:
            calls.append(block.name)
        return subtract(block)

    monkeypatch.setattr(Block, "raw_task_vectors", counted)
    ties = METHODS["ties"]
    recipes = [
        ties.recipe({"density": density, "scale": scale})
        for scale in (0.1, 0.5, 1.0)
        for density in (0.2, 0.4)
    ]
    recipes.append(METHODS["task_arithmetic"].recipe())
    assert len(list(sweep(experts, recipes, pretrained))) == 7
    # Two passes for thresholds, one for the survey, one to merge.
    assert sorted(calls) == ["fc.bias"] * 4 + ["fc.weight"] * 4


def test_recipes_that_differ_in_scale_come_one_after_the_other():
    experts, pretrained, _ = problem()
    recipes = [
        {"method": "ties", "options": {"density": density, "scale": scale}}
        for scale in (0.1, 0.5)
        for density in (0.2, 0.4)
    ]
    made = [made.recipe for made in sweep(experts, recipes, pretrained)]
    assert [(r.options["density"], r.options["scale"]) for r in made] == [
        (0.2, 0.1),
        (0.2, 0.5),
        (0.4, 0.1),
        (0.4, 0.5),
    ]


def large_problem():
    shape = (600, 600)  # so large that it is not left to malloc
    pretrained = {"fc.weight": normal(*shape, seed=0)}
    experts = [{"fc.weight": normal(*shape, seed=seed)} for seed in (1, 2)]
    return experts, pretrained


@pytest.mark.parametrize("method", ["average", "task_arithmetic", "emr"])
def test_models_of_a_sweep_that_are_kept_are_not_overwritten(method):
    experts, pretrained = large_problem()
    is_scaled = METHODS[method].scale is not None
    options = [{"scale": scale} if is_scaled else {} for scale in (0.1, 0.2, 0.3)]
    recipes = [{"method": method, "options": each} for each in options]
    made = list(sweep(experts, recipes, pretrained))
    addresses = {model.parameters["fc.weight"].data_ptr() for model in made}
    assert len(addresses) == len(made)
    for model in made:
        alone = merge(experts, model.recipe, pretrained, task=model.task)
        assert torch.equal(model.parameters["fc.weight"], alone["fc.weight"])


def test_models_of_a_sweep_that_are_dropped_leave_their_memory_to_the_next():
    experts, pretrained = large_problem()
    recipes = [
        {"method": "task_arithmetic", "options": {"scale": tenth / 10}}
        for tenth in range(10)
    ]
    addresses = {
        model.parameters["fc.weight"].data_ptr()
        for model in sweep(experts, recipes, pretrained)
    }
    # One is being made while the one before is in use; the last takes the place of what
    # all have in common.
    assert len(addresses) == 3


def test_a_sweep_checks_everything_before_it_merges():
    experts, pretrained, _ = problem()
    with pytest.raises(MissingPrerequisiteError):
        sweep(experts, ["average", "fisher"], pretrained)
    with pytest.raises(UnknownNameError):
        sweep(experts, ["average", "avrage"], pretrained)


def test_a_sweep_of_nothing_is_empty():
    experts, _, _ = problem()
    assert list(sweep(experts, [])) == []


@pytest.mark.parametrize(
    "method",
    [
        name
        for name, method in METHODS.items()
        # Learned coefficients are those of one set of experts.
        if method.experts[1] is None and method.learning is None
    ],
)
def test_a_sweep_over_nested_subsets_returns_what_separate_merges_return(method):
    experts, pretrained, statistics = problem(4)
    subsets = [("e2",), ("e0", "e2"), ("e0", "e2", "e3"), ("e0", "e1", "e2", "e3")]
    recipes = [METHODS[method].recipe()] * len(subsets)
    made = list(sweep(experts, recipes, pretrained, statistics, subsets=subsets))
    for model in made:
        chosen = {name: experts[name] for name in model.experts}
        expected = merge(chosen, model.recipe, pretrained, statistics, task=model.task)
        torch.testing.assert_close(
            dict(model.parameters), dict(expected), rtol=1e-6, atol=1e-7
        )
    assert {model.experts for model in made} == set(subsets)


def test_nested_subsets_go_on_from_the_sum_of_the_smaller(monkeypatch):
    experts, pretrained, _ = problem(4)
    added = []
    addend = Block._addend

    def noted(block, method, options, number):
        added.append(number)
        return addend(block, method, options, number)

    monkeypatch.setattr(Block, "_addend", noted)
    subsets = [("e0", "e1", "e2", "e3"), ("e0",), ("e0", "e1")]
    recipes = ["task_arithmetic"] * 3
    list(sweep(experts, recipes, pretrained, subsets=subsets))
    assert added == [0, 1, 2, 3] * 2  # for each of two parameters


def test_an_expert_that_is_not_there_cannot_be_in_a_subset():
    experts, _, _ = problem()
    with pytest.raises(UnknownNameError, match="no expert 'e9'"):
        sweep(experts, ["average"], subsets=[("e0", "e9")])


@pytest.mark.parametrize("method", ["average", "task_arithmetic", "ties", "dare"])
def test_a_sweep_that_does_not_fit_into_memory_is_merged_in_batches(method):
    experts, pretrained, _ = problem(3)
    options = {"task_arithmetic": {"weights": (1.0, 2.0, 3.0)}}.get(method, {})
    recipes = [METHODS[method].recipe(options), METHODS["mlerp"].recipe()]
    at_once = list(sweep(experts, recipes, pretrained))
    in_batches = list(sweep(experts, recipes, pretrained, memory=1))
    for one, other in zip(at_once, in_batches, strict=True):
        torch.testing.assert_close(one.parameters, other.parameters, rtol=0, atol=0)


def test_a_subset_does_not_need_the_statistics_of_other_experts():
    experts, pretrained, statistics = problem(3)
    del statistics[Need.GRAM]["e2"]
    subsets = [("e0", "e1"), ("e0", "e1", "e2")]
    recipes = ["regmean", "average"]
    made = list(sweep(experts, recipes, pretrained, statistics, subsets=subsets))
    chosen = {name: experts[name] for name in ("e0", "e1")}
    expected = merge(chosen, "regmean", pretrained, statistics)
    torch.testing.assert_close(dict(made[0].parameters), dict(expected))
    with pytest.raises(MissingPrerequisiteError, match=r"gram statistic of .*'e2'"):
        sweep(experts, ["regmean"], pretrained, statistics)
