"""Settings that every test shares."""

import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "mergegrid",
    deadline=None,  # shape checks compile on the first call
    derandomize=True,  # a red test stays red
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("mergegrid")
torch.set_num_threads(1)
