"""Settings that every test shares."""

import pytest
import torch
from hypothesis import HealthCheck, settings

from mergegrid.experiment import parse_experiment

settings.register_profile(
    "mergegrid",
    deadline=None,  # shape checks compile on the first call
    derandomize=True,  # a red test stays red
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("mergegrid")
torch.set_num_threads(1)


@pytest.fixture
def experiment():
    """Make a small experiment; keyword arguments replace its sections."""
    document = {
        "name": "tiny",
        "suite": {"name": "glyphs", "categories": 4, "classes_per_category": 2},
        "training": {"pretrain": {}, "expert": {}, "multitask": {}},
        "grid": [{"methods": ["average"]}],
    }

    def make(**sections):
        return parse_experiment(document | sections, source="test")

    return make
