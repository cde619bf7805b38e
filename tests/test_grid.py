from collections import Counter

import pytest

from mergegrid.errors import InputError
from mergegrid.grid import expand

NAMES = [f"category{index}/domain" for index in range(6)]


def block(*methods, **rest):
    return {"methods": list(methods), **rest}


def with_options(name, **options):
    return {"name": name, "options": options}


def test_a_method_without_options_is_swept_as_in_its_paper(experiment):
    cells = expand(experiment(grid=[block("regmean")]))
    assert [cell.options["off_diagonal"] for cell in cells] == [
        0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0
    ]  # fmt: skip
    assert {cell.swept for cell in cells} == {("off_diagonal",)}


def test_lists_of_options_make_every_combination(experiment):
    chosen = with_options("ties", density=[0.1, 0.2], scale=[0.5, 1, 2])
    cells = expand(experiment(grid=[block(chosen)]))
    combinations = {(c.options["density"], c.options["scale"]) for c in cells}
    assert len(cells) == len(combinations) == 6


def test_two_spellings_of_one_merge_are_one_cell(experiment):
    blocks = [
        block(with_options("ties", density=0.2, scale=1)),
        block(with_options("ties", density=0.2, scale=[1.0])),
        block(
            with_options("ties", density=0.2, scale=1),
            subsets={"nested": {"sizes": [4]}},
        ),
    ]
    assert len(expand(experiment(grid=blocks))) == 1


def test_only_methods_that_draw_are_repeated_with_every_seed(experiment):
    chosen = with_options("dare", drop_rate=0.5, scale=0.3)
    cells = expand(experiment(grid=[block("average", chosen, seeds=[0, 1, 2])]))
    assert Counter(cell.method for cell in cells) == {"average": 1, "dare": 3}


def test_the_order_in_which_experts_are_given_does_not_matter(experiment):
    tasks = [t.name for t in experiment().open_suite().tasks() if t.held_in]
    given = [[tasks[0], tasks[2]], [tasks[2], tasks[0]]]
    grid = [block("average", subsets={"given": given})]
    assert len(expand(experiment(grid=grid))) == 1


def test_the_best_scale_needs_task_arithmetic_over_the_same_experts(experiment):
    with pytest.raises(InputError, match="dare takes the scale that task_arithmetic"):
        expand(experiment(grid=[block("dare")]))
    elsewhere = block("task_arithmetic", subsets={"nested": {"sizes": [2]}})
    with pytest.raises(InputError, match="no task_arithmetic over the same 4 experts"):
        expand(experiment(grid=[block("dare"), elsewhere]))
    cells = expand(experiment(grid=[block("dare", "task_arithmetic")]))
    assert {cell.waits for cell in cells if cell.method == "dare"} == {("scale",)}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (block("slerp"), "slerp merges exactly 2 experts, but the grid asks for 4"),
        (
            block(with_options("ties", density=1.5)),
            "ties: density = 1.5 is not possible.*fraction",
        ),
        (block(with_options("ties", density=[])), "the list of density is empty"),
        (
            block("average", subsets={"nested": {"sizes": [9]}}),
            "a subset of 9 experts is larger than the suite, which has 4",
        ),
        (
            block("average", subsets={"nested": {"sizes": [2], "samples": 9}}),
            "9 different samples.*at most 6",
        ),
        (
            block("average", subsets={"given": [["arrow/clipart"]]}),
            "There is no expert 'arrow/clipart'",
        ),
    ],
)
def test_what_does_not_fit_is_named_before_anything_runs(experiment, grid, message):
    with pytest.raises(InputError, match=message):
        expand(experiment(grid=[grid]))


def test_values_of_each_expert_are_counted_before_anything_runs(experiment):
    def grid(values):
        chosen = with_options("ties", density=[values], scale=1)
        return [block(chosen, subsets={"nested": {"sizes": [2]}})]

    (cell,) = expand(experiment(grid=grid([0.1, 0.2])))
    assert cell.options["density"] == (0.1, 0.2)
    with pytest.raises(InputError, match="2 experts, but 3 values of density"):
        expand(experiment(grid=grid([0.1, 0.2, 0.3])))
