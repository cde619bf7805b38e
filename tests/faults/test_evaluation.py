"""Faults of papers and tools in sweeping, counting and comparing; each a test's name.

They were seen in the Realistic Evaluation paper, in [Re] TIES and in the code of
TALL-masks.
"""

import csv
from pathlib import Path

import pytest
import torch

from mergegrid.engine import merge_flops
from mergegrid.evaluation import Tally, evaluate
from mergegrid.grid import expand
from mergegrid.methods import METHODS, get_method
from mergegrid.suites.examples import TensorExamples

PAPERS = Path(__file__).parents[2] / "configs" / "papers"


def test_sweep_that_leaves_out_the_scale_of_the_average(experiment):
    cells = expand(experiment(grid=[{"methods": ["task_arithmetic"]}]))
    assert 1 / 4 in {cell.options["scale"] for cell in cells}


@pytest.mark.parametrize(
    ("method", "sizes", "printed"),
    [
        ("average", (3072, 768, 24), 5.66e7),
        ("task_arithmetic", (3072, 768, 24), 1.156e8),
        ("ties", (3072, 768, 24), 2.289e8),
        ("dare", (3072, 768, 24), 3.421e8),
        ("fisher", (3072, 768, 24), 1.675e8),
        ("mlerp", (3072, 768, 24), 1.203e8),
        ("regmean", (3072, 768, 24), 1.886e11),
        ("mats", (3072, 768, 24), 5.370e11),
        ("average", (5120, 2048, 5), 5.243e7),
        ("regmean", (5120, 2048, 5), 3.759e11),
        ("mats", (5120, 2048, 5), 2.955e12),
    ],
)
def test_flops_with_dimensions_permuted(method, sizes, printed):
    # What the paper's formulas give for the dimensions that it states, d x k, N = 50;
    # its tables have those of d = 768, k = 100 and d = 2048, k = 50.
    d, k, experts = sizes
    options = {"iterations": 50} if method == "mats" else {}
    recipe = get_method(method).recipe(options)
    _, counted = merge_flops({"w": (k, d)}, {"w"}, recipe, experts)
    assert counted == pytest.approx(printed, rel=1e-3)


def test_flops_of_slerp_by_the_formula_of_mlerp():
    slerp, mlerp = (
        METHODS[name].paper_flops((10, 10), 2) for name in ("slerp", "mlerp")
    )
    assert slerp == pytest.approx(8 * 100 + 3 * 4.60517)
    assert mlerp == pytest.approx(7 * 100 + 3 * 4.60517 + 0.693147)


class Guess(torch.nn.Module):
    """Says that the label is the rounded input."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch):
        return -(batch["input"][:, None] * self.scale - torch.arange(5)).abs()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_accuracy_as_the_mean_over_batches_of_different_sizes(batch_size):
    examples = TensorExamples(
        {
            "input": torch.tensor([0.1, 1.2, 2.9, 3.1, 0.0]),
            "label": torch.tensor([0, 1, 2, 3, 4]),
        }
    )
    assert evaluate(Guess(), examples, batch_size=batch_size) == Tally(3, 5)


@pytest.mark.parametrize(
    ("method", "option", "expected"),
    [
        ("ties", "density", 0.2),
        ("ties", "selection", "exact"),
        ("ties", "scope", "model"),
        ("ties", "zero_sum", "majority"),
        ("ties", "aggregate", "mean"),
        ("ties", "scale", 1.0),
        ("tall_masks", "density", 0.2),
        ("consensus", "density", 0.2),
        ("consensus", "agreement", 2),
        ("dare", "rescale", "inverse"),
        ("slerp", "scope", "model"),
        ("slerp", "t", 0.5),
        ("mlerp", "scope", "model"),
        ("fisher", "floor", 0.0),
        ("fisher", "normalize", False),
        ("regmean", "off_diagonal", 0.9),
        ("regmean", "ridge", 0.0),
        ("mats", "covariance", "inputs"),
        ("mats", "initial", "task_arithmetic"),
        ("mats", "iterations", 100),
        ("tall_masks", "comparison", "inclusive"),
        ("della", "scale", 1.1),
        ("breadcrumbs", "keep", 0.1),
        ("breadcrumbs", "outliers", 0.01),
        ("pcb", "keep", 0.1),
        ("knots", "scale", 0.6),
        ("iso_cts", "common_fraction", 0.8),
    ],
)
def test_default_that_is_not_the_papers(method, option, expected):
    assert get_method(method).recipe().options[option] == expected


def published(table, setting, role="generalization"):
    with (PAPERS / "realistic.csv").open(newline="", encoding="utf-8") as file:
        return {
            row["method"]: float(row["value"])
            for row in csv.DictReader(file)
            if (row["source_table"], row["setting"], row["role"])
            == (table, setting, role)
        }


@pytest.mark.parametrize(
    ("table", "setting", "main", "distance"),
    [
        ("Table 19", "experts=23", "Table 6", 0.4),
        ("Table 23", "experts=4", "Table 8", 4),
    ],
)
def test_columns_of_a_table_in_another_order_than_its_heads(
    table, setting, main, distance
):
    # With all experts but one, methods are nearly what they are with all of them. By
    # the heads of the printed columns, task arithmetic would be Fisher merging.
    nearly, whole = published(table, setting), published(main, "main")
    assert len(nearly) == 8
    for method, value in nearly.items():
        assert value == pytest.approx(whole[method], abs=distance), method
