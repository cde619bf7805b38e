"""Costs add up, and are measured whatever happens."""

import time

import numpy as np
import pytest

from mergegrid.costs import Cost, measure_cost

FIRST = Cost(1.5, 10, 12.5, 100, 50, 2000, 7)
SECOND = Cost(0.5, 5, 0.5, 11, 3, 3000, 2)


def test_costs_add_up_and_the_greater_peak_counts():
    total = FIRST + SECOND
    assert total == Cost(2.0, 15, 13.0, 111, 53, 3000, 9)
    assert sum([FIRST, SECOND], Cost()) == total


def test_shares_do_not_divide_memory():
    assert FIRST.share(2) == Cost(0.75, 5, 6.25, 50, 25, 2000, 3)
    with pytest.raises(ValueError, match="not 0"):
        FIRST.share(0)


def test_a_cost_is_a_row():
    row = Cost(seconds=1.0).as_dict()
    assert Cost(**row) == Cost(seconds=1.0)


def test_time_and_memory_are_measured_also_when_the_block_fails():
    measured = []

    def fail():
        with measure_cost() as cost:
            measured.append(cost)
            time.sleep(0.02)
            cost.examples = len(np.ones(8 << 20, dtype=np.uint8))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    (cost,) = measured
    assert 0.02 <= cost.seconds < 2
    assert 8 << 20 <= cost.peak_memory < 1 << 40
    assert cost.examples == 8 << 20
