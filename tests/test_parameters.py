import torch

from mergegrid.parameters import Role, role


def test_tensors_have_roles():
    assert role("layer.weight", torch.float32) is Role.MERGED
    assert role("layer.weight", torch.bfloat16) is Role.MERGED
    assert role("bn.running_var", torch.float32) is Role.AVERAGED
    assert role("running_mean", torch.float32) is Role.AVERAGED
    assert role("bn.num_batches_tracked", torch.int64) is Role.COUNTER
    assert role("position_ids", torch.int64) is Role.COPIED
    assert role("mask", torch.bool) is Role.COPIED
