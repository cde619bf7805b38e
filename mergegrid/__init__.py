"""Model merging as a grid: methods, statistics, suites, and the engine."""

from mergegrid.engine import merge, sweep
from mergegrid.methods import METHODS, get_method

__all__ = ["METHODS", "get_method", "merge", "sweep"]
