import platform
import subprocess
import sys

import pytest

BLOCKS = 100
PAGES_OF_A_BLOCK = 8 * (1 << 20) // 4096

LEAVE_BLOCKS = f"""
import resource
import torch
from mergegrid.allocator import reuse_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

reuse_memory()
before = faults()
for _ in range({BLOCKS}):
    tensors = [torch.ones(1 << 18) for _ in range(8)]
    del tensors
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc")
def test_a_block_takes_the_memory_that_the_one_before_has_left():
    # A process of its own: in this one large pieces of memory have come back before.
    found = subprocess.run(
        [sys.executable, "-c", LEAVE_BLOCKS], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < BLOCKS * PAGES_OF_A_BLOCK / 10
