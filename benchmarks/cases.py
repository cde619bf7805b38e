"""Merges that two tools mean the same by, and how each of them is told."""

from dataclasses import dataclass
from typing import Any, Literal

MERGEGRID, MERGEKIT, FUSION_BENCH = "mergegrid", "mergekit", "fusion_bench"

RIVALS = {MERGEKIT: "mergekit", FUSION_BENCH: "fusion-bench"}
"""Each rival's name, and that of its distribution."""

SCALE, DENSITY, DROP_RATE, OFF_DIAGONAL = 0.3, 0.2, 0.5, 0.9


@dataclass(frozen=True)
class Case:
    """One merge, as mergegrid and a rival are asked for it."""

    rival: Literal["mergekit", "fusion_bench"]
    """The tool to compare with."""

    method: str
    """mergegrid's method."""

    options: dict[str, Any]
    """mergegrid's options, those that make it mean what the rival means included."""

    rival_method: str
    """The rival's method: a name in a file of mergekit's, or a class or function."""

    rival_options: dict[str, Any]
    """The rival's parameters."""

    needs_pretrained: bool = True
    """Whether it is about task vectors."""

    draws: bool = False
    """Whether it is random, so that the results are alike but not equal."""

    has_command: bool = False
    """Whether both tools merge files by a command."""

    @property
    def name(self) -> str:
        """What the case is called on the command line and in tables."""
        return f"{self.rival}/{self.method}"


CASES = (
    Case(
        MERGEKIT,
        "average",
        {},
        "linear",
        {"weight": 1.0},
        needs_pretrained=False,
        has_command=True,
    ),
    Case(
        MERGEKIT,
        "task_arithmetic",
        {"scale": SCALE},
        "task_arithmetic",
        {"weight": 1.0, "lambda": SCALE},
        has_command=True,
    ),
    Case(  # trims tensor by tensor; the sign of a sum of zero is +
        MERGEKIT,
        "ties",
        {"density": DENSITY, "scale": 1.0, "scope": "tensor", "zero_sum": "plus"},
        "ties",
        {"weight": 1.0, "density": DENSITY},
        has_command=True,
    ),
    Case(  # counts what is kept, and rescales to the L1 norm
        MERGEKIT,
        "dare",
        {"drop_rate": DROP_RATE, "rescale": "norm", "scale": SCALE},
        "dare_linear",
        {"weight": 1.0, "density": 1 - DROP_RATE, "lambda": SCALE},
        draws=True,
        has_command=True,
    ),
    Case(
        FUSION_BENCH,
        "average",
        {},
        "SimpleAverageAlgorithm",
        {},
        needs_pretrained=False,
    ),
    Case(
        FUSION_BENCH,
        "task_arithmetic",
        {"scale": SCALE},
        "TaskArithmeticAlgorithm",
        {"scaling_factor": SCALE},
    ),
    Case(  # trims over the whole model, and keeps all that equal the threshold
        FUSION_BENCH,
        "ties",
        {"density": DENSITY, "scale": 1.0, "selection": "threshold"},
        "TiesMergingAlgorithm",
        {
            "scaling_factor": 1.0,
            "threshold": DENSITY,
            "remove_keys": [],
            "merge_func": "mean",
        },
    ),
    Case(
        FUSION_BENCH,
        "dare",
        {"drop_rate": DROP_RATE, "scale": SCALE},
        "DareTaskArithmetic",
        {
            "scaling_factor": SCALE,
            "sparsity_ratio": DROP_RATE,
            "only_on_linear_weights": False,
        },
        draws=True,
    ),
    Case(  # from given Gram matrices, in float32
        FUSION_BENCH,
        "regmean",
        {"off_diagonal": OFF_DIAGONAL},
        "merging_with_regmean_weights",
        {"reduce_non_diagonal_ratio": OFF_DIAGONAL},
        needs_pretrained=False,
    ),
)
