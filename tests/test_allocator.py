import platform
import subprocess
import sys

import pytest

ALLOCATE = """
import ctypes
import torch
from mergegrid.allocator import reuse_memory

class Found(ctypes.Structure):
    _fields_ = [(f"field{number}", ctypes.c_size_t) for number in range(10)]

ask = ctypes.CDLL(None).mallinfo2
ask.restype = Found
reuse_memory()
before = ask().field3
tensor = torch.empty(30 << 20, dtype=torch.uint8)
print(ask().field3 - before)
"""
"""Prints how many pieces of memory a tensor is mapped for, apart from the rest."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc")
def test_memory_for_tensors_is_not_mapped_for_each():
    # A process of its own: in this one large pieces of memory have come back before.
    found = subprocess.run(
        [sys.executable, "-c", ALLOCATE], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["0"]
