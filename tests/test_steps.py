"""Which changes must and must not repeat a step."""

import pytest

from mergegrid.experiment_steps import build_steps

GRID = [{"methods": ["task_arithmetic", "ties", "fisher", "regmean", "dare", "mlerp"]}]


def keys(experiment, *names):
    steps = build_steps(experiment)
    return {step.key for step in steps.artifacts.values() if step.name in names}


def cells(experiment):
    return {entry.step.key for entry in build_steps(experiment).scored.values()}


def test_keys_are_the_same_in_every_process(experiment):
    assert cells(experiment(grid=GRID)) == cells(experiment(grid=GRID))


def test_a_wider_grid_keeps_every_step_and_cell_of_the_narrower(experiment):
    narrow = experiment(grid=GRID)
    options = {"density": [0.1, 0.2, 0.5], "scale": [1.0, 2.0]}
    wide = experiment(grid=[*GRID, {"methods": [{"name": "ties", "options": options}]}])
    assert cells(narrow) < cells(wide)
    assert set(build_steps(narrow).artifacts) < set(build_steps(wide).artifacts)


def test_names_and_descriptions_are_nobodys_input(experiment):
    renamed = experiment(name="other", description="the same", grid=GRID)
    assert cells(experiment(grid=GRID)) == cells(renamed)


def test_another_way_to_train_experts_keeps_the_pretrained_model(experiment):
    before = experiment(grid=GRID)
    training = {"pretrain": {}, "expert": {"steps": 7}, "multitask": {}}
    after = experiment(grid=GRID, training=training)
    kept = ("data", "pretrain", "multitask")
    assert keys(before, *kept) == keys(after, *kept)
    for name in ("train", "fisher", "gram", "norms", "trim"):
        assert not keys(before, name) & keys(after, name)


def test_another_fisher_keeps_everything_but_fisher_merging(experiment):
    before = experiment(grid=GRID)
    after = experiment(grid=GRID, statistics={"fisher": {"variant": "empirical"}})
    assert keys(before, "train", "gram") == keys(after, "train", "gram")
    assert not keys(before, "fisher") & keys(after, "fisher")
    assert len(cells(before) - cells(after)) == 1


@pytest.mark.parametrize("section", [{"seed": 1}, {"suite": {"name": "glyphs"}}])
def test_another_seed_or_suite_repeats_every_model(experiment, section):
    before, after = experiment(grid=GRID), experiment(grid=GRID, **section)
    assert not keys(before, "train", "pretrain") & keys(after, "train", "pretrain")
    assert not cells(before) & cells(after)


def test_subsets_share_the_statistics_of_their_experts(experiment):
    nested = {"methods": ["regmean"], "subsets": {"nested": {"sizes": [2, 3]}}}
    steps = build_steps(experiment(grid=[{"methods": ["regmean"]}, nested]))
    assert len(steps.named("gram")) == 4


def test_no_statistic_is_measured_that_no_method_needs(experiment):
    steps = build_steps(experiment(grid=[{"methods": ["average", "task_arithmetic"]}]))
    assert not steps.named("fisher", "gram", "norms", "trim")


def test_output_gradients_are_measured_for_those_options_that_need_them(experiment):
    def grid(covariance):
        options = {"covariance": covariance, "iterations": 10, "initial_scale": 0.3}
        return [{"methods": [{"name": "mats", "options": options}]}]

    measured = {
        covariance: {
            step.name
            for step in build_steps(experiment(grid=grid(covariance))).named(
                "fisher", "gram", "gradient"
            )
        }
        for covariance in ("inputs", "kfac", "diagonal")
    }
    assert measured == {
        "inputs": {"gram"},
        "kfac": {"gram", "gradient"},
        "diagonal": {"fisher"},
    }
    before, other = (
        experiment(grid=grid("kfac"), statistics={"gradient": settings})
        for settings in ({}, {"variant": "exact"})
    )
    assert len(keys(before, "gradient")) == 4
    assert not keys(before, "gradient") & keys(other, "gradient")
    assert keys(before, "train", "gram") == keys(other, "train", "gram")
    assert len(cells(before) - cells(other)) == 1


def test_parents_come_first_and_exist(experiment):
    steps = build_steps(experiment(grid=GRID))
    seen = set()
    for step in steps.artifacts.values():
        assert set(step.parents) <= seen
        seen.add(step.key)
    for entry in steps.scored.values():
        assert set(entry.step.parents) <= seen
        seen.add(entry.step.key)


def test_a_cell_that_waits_for_the_best_scale_follows_what_it_waits_for(experiment):
    steps = build_steps(experiment(grid=GRID))
    waiting = [e for e in steps.scored.values() if e.cell.method == "dare"]
    candidates = [
        key for key, e in steps.scored.items() if e.cell.method == "task_arithmetic"
    ]
    assert waiting
    for entry in waiting:
        assert sorted(entry.best_of["scale"]) == sorted(candidates)


def test_the_definition_changes_with_the_grid_and_not_with_the_name(experiment):
    first = build_steps(experiment(grid=GRID)).definition
    assert build_steps(experiment(name="other", grid=GRID)).definition == first
    assert build_steps(experiment()).definition != first


def test_each_expert_is_trimmed_to_its_own_density(experiment):
    def steps(*densities):
        options = {"density": [*densities], "scale": 1}
        methods = [{"name": "ties", "options": options}]
        subsets = {"nested": {"sizes": [2]}}
        return build_steps(experiment(grid=[{"methods": methods, "subsets": subsets}]))

    trims = steps([0.1, 0.2]).named("trim")
    assert sorted(step.inputs["density"] for step in trims) == [0.1, 0.2]
    assert {step.key for step in trims} < {
        step.key for step in steps(0.1, 0.2).named("trim")
    }
    assert not steps(1.0).named("trim")
