"""Learning that was cut off goes on as if it had not been."""

import pytest
import torch

from tests.learning.conftest import Setting
from tests.learning.test_learning import LEARNED, learn


class CutOffError(Exception):
    """Stands for a kill."""


class Kept:
    """A checkpoint in memory that cuts learning off after a number of savings."""

    def __init__(self, savings=None):
        self.state = None
        self.savings = savings

    def load(self):
        return None if self.state is None else dict(self.state)

    def save(self, state):
        self.state = {name: tensor.clone() for name, tensor in state.items()}
        if self.savings is not None:
            self.savings -= 1
            if self.savings == 0:
                raise CutOffError


@pytest.mark.parametrize("method", LEARNED)
@pytest.mark.parametrize("savings", [1, 2, 3, 5])
def test_it_comes_to_the_same_coefficients_wherever_it_was_cut_off(method, savings):
    setting = Setting()
    whole, undisturbed = learn(setting, method)
    checkpoint = Kept(savings)
    try:
        learn(setting, method, checkpoint=checkpoint)
    except CutOffError:
        checkpoint.savings = None
        updates = []
        found, record = learn(
            setting,
            method,
            checkpoint=checkpoint,
            progress=lambda done, of: updates.append((done, of)),
        )
        assert all(torch.equal(found[name], row) for name, row in whole.items())
        assert record == _same(record, undisturbed)
        if savings > 1:
            assert len(updates) < undisturbed.steps
    else:
        assert savings > len(undisturbed.history)


def _same(record, undisturbed):
    assert torch.equal(record.coefficients, undisturbed.coefficients)
    assert record.history == undisturbed.history
    assert (record.steps, record.examples) == (undisturbed.steps, undisturbed.examples)
    assert record.collapsed == undisturbed.collapsed
    return record
