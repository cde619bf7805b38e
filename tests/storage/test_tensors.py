import resource
from pathlib import Path

import pytest
import torch

from mergegrid.errors import StorageError
from storage.tensors import layout, load_metadata, load_tensors, save_tensors

GRID = torch.arange(24.0).view(4, 6)
AWKWARD = {
    "transposed": GRID.T,
    "strided": GRID[::2, 1::3],
    "expanded": torch.ones(3, 1).expand(3, 5),
    "slice": GRID[1:3],
    "overlapping": GRID[2:4],
    "same": GRID,
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(7),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "trained": torch.nn.Parameter(torch.ones(2)),
}


def test_any_memory_layout_is_read_as_it_was_written(tmp_path):
    save_tensors(tmp_path / "t.safetensors", AWKWARD)
    loaded = load_tensors(tmp_path / "t.safetensors")
    assert list(loaded) == sorted(AWKWARD)
    for name, tensor in AWKWARD.items():
        assert torch.equal(loaded[name], tensor), name
        assert loaded[name].dtype == tensor.dtype


def test_equal_tensors_give_equal_bytes_in_any_order_and_with_metadata(tmp_path):
    # Several metadata keys would come in an order that differs at every save.
    metadata = {"b": 1.0, "a": [1, 2], "c": {"d": None}}
    contents = set[bytes]()
    for turn in range(8):
        names = sorted(AWKWARD, reverse=bool(turn % 2))
        path = tmp_path / f"{turn}.safetensors"
        save_tensors(path, {name: AWKWARD[name] for name in names}, metadata)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert load_metadata(path) == '{"a":[1,2],"b":1,"c":{"d":null}}'


def test_a_layout_is_read_without_the_tensors(tmp_path):
    save_tensors(tmp_path / "t.safetensors", {"w": GRID, "b": AWKWARD["half"]})
    expected = {"b": ((2,), "BF16"), "w": ((4, 6), "F32")}
    assert layout(tmp_path / "t.safetensors") == expected
    assert load_metadata(tmp_path / "t.safetensors") is None


def test_a_disk_that_takes_no_more_is_one_line(tmp_path, in_child):
    def child():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(StorageError, match=r"^Cannot write t\.safetensors: .*\.$"):
            save_tensors(Path(tmp_path / "t.safetensors"), {"w": torch.ones(1000)})

    assert in_child(child) == 0
