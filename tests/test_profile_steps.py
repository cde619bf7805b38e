"""Which steps look at task vectors, what they share, and what repeats them."""

import pytest

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.estimates import Estimates
from mergegrid.experiment_steps import build_steps
from mergegrid.steps import PROFILES

NESTED = {"nested": {"sizes": [2, 3], "samples": 2}}


def profiled(experiment, *profiles, **sections):
    return build_steps(experiment(profiles=list(profiles), **sections))


def keys(steps, *names):
    return {step.key for step in steps.named(*names)}


def test_nothing_is_looked_at_unless_it_is_asked_for(experiment):
    steps = build_steps(experiment())
    assert not steps.named(*PROFILES)
    assert not steps.profiled


def test_every_subset_has_a_profile_and_every_expert_in_it_a_distribution(experiment):
    steps = profiled(experiment, {"subsets": NESTED}, {"subsets": "all"})
    found = [
        (entry.step.name, len(entry.experts), entry.sample)
        for entry in steps.profiled.values()
    ]
    assert found == [
        ("profile", 2, 1),
        ("profile", 3, 1),
        ("profile", 2, 2),
        ("profile", 3, 2),
        ("profile", 4, 0),
        *[("distribution", 1, 0)] * 4,
    ]
    alone = [e.experts for e in steps.profiled.values() if len(e.experts) == 1]
    assert alone == [(task,) for task in steps.experts]


def test_profiles_change_no_other_step_and_no_cell(experiment):
    grid = [{"methods": ["ties"]}]
    before = build_steps(experiment(grid=grid))
    after = profiled(experiment, {"subsets": NESTED}, grid=grid)
    assert set(before.artifacts) < set(after.artifacts)
    assert set(before.scored) == set(after.scored)
    assert before.definition != after.definition


def test_thresholds_are_those_that_merges_use(experiment):
    grid = [{"methods": [{"name": "ties", "options": {"density": [0.1, 0.2]}}]}]
    merged = build_steps(experiment(grid=grid))
    both = profiled(experiment, {"densities": [0.1, 0.2, 1]}, grid=grid)
    assert keys(both, "trim") == keys(merged, "trim")
    (step,) = both.named("profile")
    assert keys(both, "trim") < set(step.parents)


def test_another_density_or_threshold_repeats_the_profile_alone(experiment):
    asked = {"densities": [0.2], "mask_thresholds": [0.4]}
    before = profiled(experiment, asked)
    for other in ({"densities": [0.2, 0.5]}, {"mask_thresholds": [0.4, 1]}):
        after = profiled(experiment, asked | other)
        assert keys(before, "distribution", "train") == keys(
            after, "distribution", "train"
        )
        assert not keys(before, "profile") & keys(after, "profile")


def test_the_order_in_which_densities_are_written_does_not_matter(experiment):
    one = profiled(experiment, {"densities": [0.5, 0.2, 0.2]})
    other = profiled(experiment, {"densities": [0.2, 0.5]})
    assert keys(one, "profile") == keys(other, "profile")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"densities": [0]}, r"profiles\.0\.densities\.0: .*greater than 0.*got 0"),
        ({"densities": [1.5]}, r"densities\.0: .*less than or equal to 1"),
        (
            {"mask_thresholds": [-1]},
            r"mask_thresholds\.0: .*greater than or equal to 0",
        ),
        ({"density": [0.2]}, r"density.*did you mean 'densities'"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_in_one_line(experiment, asked, said):
    with pytest.raises(InputError, match=rf"(?i){said}"):
        experiment(profiles=[asked])


def test_an_unknown_expert_is_named(experiment):
    with pytest.raises(UnknownNameError, match="nobody"):
        profiled(experiment, {"subsets": {"given": [["nobody"]]}})


def test_estimates_grow_with_what_is_asked_for(experiment):
    def estimated(**asked):
        small = experiment(profiles=[asked])
        steps = build_steps(small)
        found = Estimates(small, steps.artifacts.values())
        (step,) = steps.named("profile")
        assert all(found.of[key].bytes > 0 for key in steps.profiled)
        assert all(found.of[key].flops > 0 for key in steps.profiled)
        return found.of[step.key]

    few, more = estimated(), estimated(densities=[0.1, 0.2], mask_thresholds=[0.4])
    assert few.flops < more.flops
    assert few.bytes < more.bytes
