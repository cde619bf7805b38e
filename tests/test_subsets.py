"""Which experts are merged with one another."""

import itertools

import pytest

from mergegrid.errors import InputError
from mergegrid.experiment import Combinations, Nested, Subsets, load_experiment
from mergegrid.subsets import chosen_subsets, combinations, nested_subsets

NAMES = [f"task{number}" for number in range(6)]


def subsets(**written):
    return list(chosen_subsets(Subsets.model_validate(written), NAMES))


def test_nested_subsets_grow_within_a_sample():
    drawn = nested_subsets(NAMES, Nested(sizes=(2, 4, 6), samples=3, seed=1))
    for sample in (1, 2, 3):
        small, middle, large = (set(subset) for s, subset in drawn if s == sample)
        assert small < middle < large == set(NAMES)


def test_no_two_samples_share_a_subset_that_leaves_an_expert_out():
    drawn = nested_subsets(NAMES, Nested(sizes=(2, 3), samples=5, seed=0))
    found = [frozenset(subset) for _, subset in drawn]
    assert len(set(found)) == len(found) == 10


def test_subsets_depend_on_the_seed_alone():
    first, again, other = (
        nested_subsets(NAMES, Nested(sizes=(3,), samples=2, seed=seed))
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_more_samples_begin_with_the_same_ones():
    few, many = (
        nested_subsets(NAMES, Nested(sizes=(2, 3), samples=samples, seed=0))
        for samples in (2, 4)
    )
    assert many[: len(few)] == few


def test_given_orders_are_cut_at_sizes_each_a_sample_of_its_own():
    orders = [["task3", "task1", "task2"], ["task0", "task5", "task1"]]
    assert subsets(orders={"given": orders, "sizes": [3, 1, 2]}) == [
        (1, ("task3",)),
        (1, ("task1", "task3")),
        (1, ("task1", "task2", "task3")),
        (2, ("task0",)),
        (2, ("task0", "task5")),
        (2, ("task0", "task1", "task5")),
    ]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            {"given": [["a", "b", "c"], ["c", "a"], ["a", "b", "d"]], "sizes": [2]},
            "the orders 1 and 3 begin with the same 2 experts",
        ),
        (
            {"given": [["a", "b"], ["b"]], "sizes": [1, 2]},
            "order 2 names 1 experts, fewer than 2",
        ),
    ],
)
def test_orders_that_begin_alike_or_end_too_soon_are_refused(written, message):
    with pytest.raises(ValueError, match=message):
        Subsets.model_validate({"orders": written})


def test_orders_may_begin_with_the_same_expert_or_in_another_order():
    orders = [["task0", "task1"], ["task0", "task2"], ["task1", "task0"]]
    found = subsets(orders={"given": orders, "sizes": [1, 2]})
    assert [sample for sample, _ in found] == [1, 1, 2, 2, 3, 3]


def test_one_order_is_merged_expert_by_expert():
    assert subsets(incremental=["task2", "task0", "task1"]) == [
        (1, ("task0", "task2")),
        (1, ("task0", "task1", "task2")),
    ]


def test_combinations_are_all_of_a_size_or_as_many_as_are_wanted():
    drawn = list(combinations(NAMES, Combinations(sizes=(1, 3), most=10, seed=0)))
    assert [subset for subset in drawn if len(subset) == 1] == [
        (name,) for name in NAMES
    ]
    threes = [subset for subset in drawn if len(subset) == 3]
    assert len(set(threes)) == len(threes) == 10
    assert set(threes) < set(itertools.combinations(NAMES, 3))


def test_combinations_depend_on_the_seed_and_their_size_alone():
    def draw(seed, *sizes):
        drawn = combinations(NAMES, Combinations(sizes=sizes, most=5, seed=seed))
        return [subset for subset in drawn if len(subset) == 3]

    assert draw(0, 3) == draw(0, 2, 3, 4) != draw(1, 3)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"combinations": {"sizes": [7]}}, "subset of 7 experts is larger than the"),
        ({"incremental": ["task0", "task9"]}, "no expert 'task9'"),
        ({"incremental": ["task0", "task0"]}, "names an expert twice"),
    ],
)
def test_what_the_suite_does_not_have_is_named(written, message):
    with pytest.raises(InputError, match=message):
        subsets(**written)


def test_exactly_one_kind_of_subsets_is_written():
    for written in ({}, {"all": True, "incremental": ["a", "b"]}):
        with pytest.raises(
            ValueError, match="write one of: all, given, nested, orders"
        ):
            Subsets.model_validate(written)


def from_both_ends(order):
    turns = zip(order, order[::-1], strict=True)
    return tuple(name for pair in turns for name in pair)[: len(order)]


def test_talls_eight_orders_hold_every_task_and_turn_one_another_round():
    experiment = load_experiment("configs/experiments/vision20.yaml")
    tasks = {task.name for task in experiment.open_suite().tasks()}
    orders = experiment.grid[1].subsets.orders.given
    assert all(set(order) == tasks and len(order) == 20 for order in orders)
    for up, down, wave, zigzag in (orders[:4], orders[4:]):
        assert up == down[::-1]
        assert wave == zigzag[::-1]
    by_difficulty, by_alphabet = orders[:4], orders[4:]
    assert by_difficulty[3] == from_both_ends(by_difficulty[1])
    assert by_alphabet[2] == from_both_ends(by_alphabet[0])
