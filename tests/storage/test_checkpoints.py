"""What a long step goes on from."""

import torch

from storage import garbage
from storage.checkpoints import Checkpoints
from storage.claims import using
from storage.garbage import find_garbage, sweep

STATE = {"free": torch.arange(6.0).view(2, 3).mT, "numbers": torch.tensor([1.5])}


def test_what_was_kept_last_is_found_by_whoever_goes_on(root):
    checkpoint = Checkpoints(root, "learn-v1-1")
    assert checkpoint.load() is None
    checkpoint.save({"free": torch.zeros(1)})
    checkpoint.save(STATE)
    found = Checkpoints(root, "learn-v1-1").load()
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())
    assert Checkpoints(root, "learn-v1-2").load() is None
    checkpoint.remove()
    checkpoint.remove()  # of a step that two workers did
    assert checkpoint.load() is None


def test_a_checkpoint_that_cannot_be_read_is_none(root):
    root.write("checkpoints/learn-v1-1.safetensors", b"cut")
    assert Checkpoints(root, "learn-v1-1").load() is None


def test_what_nobody_goes_on_with_is_swept_unless_a_grid_that_runs_does(root):
    for key in ("learn-v1-1", "learn-v1-2"):
        Checkpoints(root, key).save(STATE)
    with using(root, {"learn-v1-2"}):
        swept = list(sweep(root, set, grace=-10.0))
    assert [(part.path, part.reason) for part in swept] == [
        ("checkpoints/learn-v1-1.safetensors", garbage.UNFINISHED)
    ]
    assert Checkpoints(root, "learn-v1-2").load() is not None
    assert find_garbage(root, set(), set(), now=1e12, grace=1e13) == []
