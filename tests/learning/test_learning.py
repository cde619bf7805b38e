"""Learned coefficients: what they start from, come to, and do not depend on."""

import math

import pytest
import torch

from mergegrid import merge
from mergegrid.errors import InputError
from mergegrid.learning.learn import learn_coefficients
from mergegrid.learning.objectives import effective_labels, entropy
from mergegrid.methods import METHODS
from mergegrid.methods.needs import Need
from mergegrid.suites.examples import TensorExamples
from tests.learning.conftest import CLASSES, Setting

LEARNED = [name for name, method in METHODS.items() if method.learning]
QUICK = {
    "supermerge": {"steps": 12, "evaluate_every": 4, "batch_size": 16},
    "hierarchical_supermerge": {"steps": 8, "evaluate_every": 4, "batch_size": 16},
    "adamerging": {"steps": 12, "evaluate_every": 4, "learning_rate": 0.02},
    "adamerging_pp": {"steps": 12, "evaluate_every": 4, "learning_rate": 0.02},
}


def learn(setting, method, options=None, **how):
    return learn_coefficients(
        setting.model(),
        setting.experts,
        {"method": method, "options": QUICK[method] | (options or {})},
        setting.pretrained,
        setting.examples,
        **how,
    )


def merged(setting, method, coefficients, options=None):
    return merge(
        setting.experts,
        {"method": method, "options": QUICK[method] | (options or {})},
        setting.pretrained,
        {Need.COEFFICIENTS: {"all": coefficients}},
    )


def constant(setting, value):
    row = torch.full((len(setting.experts),), value, dtype=torch.float64)
    return dict.fromkeys(setting.pretrained, row)


@pytest.mark.parametrize("scale", [0.3, 0.7])
def test_equal_coefficients_merge_as_task_arithmetic_does(setting, scale):
    # w = atanh(scale) stands for a coefficient of scale.
    learned, _ = learn(setting, "supermerge", {"initial": scale, "steps": 0})
    for name, row in learned.items():
        expected = torch.full_like(row, math.tanh(math.atanh(scale)))
        torch.testing.assert_close(row, expected, msg=name)
    ours = merged(setting, "supermerge", learned)
    recipe = {"method": "task_arithmetic", "options": {"scale": scale}}
    theirs = merge(setting.experts, recipe, setting.pretrained)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)


def test_coefficients_of_zero_give_the_pretrained_model(setting):
    for method in LEARNED:
        found = merged(setting, method, constant(setting, 0.0))
        for name, before in setting.pretrained.items():
            assert torch.equal(found[name], before)


def test_adamerging_starts_as_task_arithmetic_at_a_scale_of_three_tenths(setting):
    model = setting.model()
    learned, _ = learn_coefficients(
        model,
        setting.experts,
        {"method": "adamerging", "options": {"steps": 0}},
        setting.pretrained,
        setting.examples,
    )
    assert all((row == 0.3).all() for row in learned.values())
    recipe = {"method": "task_arithmetic", "options": {"scale": 0.3}}
    expected = merge(setting.experts, recipe, setting.pretrained)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name])


def test_the_model_that_was_learned_is_the_one_that_the_engine_merges(setting):
    for method in LEARNED:
        model = setting.model()
        recipe = {"method": method, "options": QUICK[method]}
        learned, _ = learn_coefficients(
            model, setting.experts, recipe, setting.pretrained, setting.examples
        )
        found = merged(setting, method, learned)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(
                parameter.detach(), found[name], rtol=1e-5, atol=1e-6
            )


def test_a_tree_of_one_merge_is_supermerge(setting):
    how = {"steps": 12, "initial": 0.3}
    plain, _ = learn(setting, "supermerge", how)
    for tree in ({"tree": [["a", "b", "c"]]}, {"together": 3}):
        found, _ = learn(setting, "hierarchical_supermerge", how | tree)
        for name, row in plain.items():
            torch.testing.assert_close(found[name], row)


def test_a_merge_in_the_tree_learns_from_its_own_tasks_alone(setting):
    tree = {"tree": [["a", "b"], "c"]}
    found, record = learn(setting, "hierarchical_supermerge", tree)
    assert record.together == 2
    assert {look.node for look in record.history} == {"a+b", ""}
    # The merge of a and b knows nothing of c: with other examples it is the same.
    other = Setting()
    other.examples["c"] = other.examples["b"]
    changed, _ = learn(other, "hierarchical_supermerge", tree)
    for name, row in found.items():
        ratio = row[0] / row[1]
        torch.testing.assert_close(changed[name][0] / changed[name][1], ratio)
        assert not torch.equal(changed[name], row)


@pytest.mark.parametrize("method", LEARNED)
def test_coefficients_do_not_depend_on_where_task_vectors_are(setting, method):
    held, _ = learn(setting, method)
    for hold in ("offloaded", "streamed"):
        other, _ = learn(setting, method, hold=hold)
        assert all(torch.equal(other[name], row) for name, row in held.items())


@pytest.mark.parametrize("method", LEARNED)
def test_seeds_decide_what_is_learned_and_nothing_else_does(setting, method):
    first, _ = learn(setting, method)
    again, _ = learn(setting, method)
    other, _ = learn(setting, method, seed=1)
    assert all(torch.equal(again[name], row) for name, row in first.items())
    assert not all(torch.equal(other[name], row) for name, row in first.items())


def test_supermerge_does_better_on_what_it_was_held_out_than_it_began(setting):
    _, record = learn(setting, "supermerge", {"steps": 40})
    held_out = [look.held_out for look in record.history]
    assert min(held_out[1:]) < held_out[0]


def test_the_coefficients_with_the_least_held_out_loss_are_kept(setting):
    # So fast that it soon does worse than at the start.
    fast = {"learning_rate": 50.0, "bound": "none", "optimizer": "sgd"}
    learned, record = learn(setting, "supermerge", fast | {"steps": 40, "patience": 2})
    assert record.history[0].held_out == min(look.held_out for look in record.history)
    assert all((row - 0.3).abs().max() < 1e-12 for row in learned.values())
    assert record.steps == 8  # two looks without improvement, at four updates each


def test_bounds_hold_whatever_the_learning_rate(setting):
    fast = {"learning_rate": 5.0, "holdout": 0.0}
    learned, _ = learn(setting, "supermerge", fast)
    assert all((row.abs() <= 1).all() for row in learned.values())
    free, _ = learn(setting, "supermerge", fast | {"bound": "none"})
    assert any((row.abs() > 1).any() for row in free.values())
    kept, _ = learn(setting, "adamerging", {"learning_rate": 5.0})
    assert all(((row >= 0) & (row <= 1)).all() for row in kept.values())


def test_one_coefficient_for_all_tensors_is_one_number(setting):
    learned, record = learn(setting, "supermerge", {"granularity": "model"})
    first = next(iter(learned.values()))
    assert all(torch.equal(row, first) for row in learned.values())
    assert record.trained == len(setting.experts)


def test_examples_that_were_used_are_counted_once_each(setting):
    _, record = learn(setting, "supermerge", {"examples": 10, "holdout": 0.3})
    assert (record.labelled, record.unlabelled) == (30, 0)
    assert record.examples == 12 * 16
    _, record = learn(setting, "adamerging", {"examples": 10})
    assert (record.labelled, record.unlabelled) == (0, 30)
    assert record.examples == 12 * 10 * 3


def test_adamerging_looks_at_no_label(setting):
    other = Setting()
    for task, examples in other.examples.items():
        batch = examples[:]
        labels = (batch["label"] + 1) % CLASSES
        other.examples[task] = TensorExamples(batch | {"label": labels})
    first, _ = learn(setting, "adamerging")
    again, _ = learn(other, "adamerging")
    assert all(torch.equal(again[name], row) for name, row in first.items())


def test_adamerging_makes_the_model_surer(setting):
    _, record = learn(setting, "adamerging", {"steps": 60, "learning_rate": 0.05})
    assert record.history[-1].loss < record.history[1].loss


def test_a_collapse_is_noticed(setting):
    # The larger the last bias, the surer the model is of one and the same label.
    for expert in setting.experts.values():
        expert["second.bias"] = setting.pretrained["second.bias"].clone()
        expert["second.bias"][0] += 2.0
        for name in ("first.weight", "first.bias", "second.weight"):
            expert[name] = setting.pretrained[name]
    steep = {"bound": "none", "steps": 100, "learning_rate": 0.5, "evaluate_every": 50}
    _, record = learn(setting, "adamerging", steep)
    assert record.collapsed == ("b", "c")  # a has few labels to begin with
    assert record.history[0].labels == 1.0
    assert record.history[-1].labels < 0.5
    _, calm = learn(setting, "adamerging", {"steps": 1})
    assert calm.collapsed == ()


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("supermerge", {"initial": 1.0}, "between -1 and 1"),
        ("adamerging", {"initial": 1.5}, "not in [0, 1]"),
        ("supermerge", {"examples": 41}, "a has 40 examples to learn from, fewer than"),
        ("supermerge", {"examples": 1}, "would be held out"),
        ("hierarchical_supermerge", {"tree": [["a", "b"]]}, "has c 0 times"),
        ("hierarchical_supermerge", {"tree": [["a", "b"], "d"]}, "has d, which is"),
        ("average", {}, "learns no coefficients"),
    ],
)
def test_what_cannot_be_learned_is_said_in_a_line(setting, method, options, says):
    with pytest.raises(InputError) as raised:
        learn_coefficients(
            setting.model(),
            setting.experts,
            {"method": method, "options": options},
            setting.pretrained,
            setting.examples,
        )
    assert says in str(raised.value)


def test_a_loss_that_is_not_finite_names_the_learning_rate(setting):
    batch = setting.examples["a"][:]
    batch["input"][0] = math.nan
    setting.examples["a"] = TensorExamples(batch)
    with pytest.raises(InputError, match="lower the learning_rate"):
        learn(setting, "supermerge", {"holdout": 0.0})


def test_entropy_is_that_of_the_distribution_and_passes_over_the_impossible():
    chances = torch.tensor([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]])
    logs = chances.log().requires_grad_()
    found = entropy(logs)
    assert found.tolist() == pytest.approx([1.5 * math.log(2), 0.0])
    found.sum().backward()
    assert torch.isfinite(logs.grad).all()


def test_effective_labels_count_how_many_labels_are_given():
    assert effective_labels(torch.tensor([3, 3, 3])) == pytest.approx(1.0)
    assert effective_labels(torch.tensor([0, 1, 2, 3] * 5)) == pytest.approx(4.0)
