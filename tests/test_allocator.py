import platform
import subprocess
import sys

import pytest

ENTRIES = 1 << 22
PAGES_OF_A_MODEL = ENTRIES * 4 // 4096

MERGE = f"""
import resource
import torch
import mergegrid

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

models = [{{"weight": torch.randn({ENTRIES})}} for _ in range(4)]
before = pages()
mergegrid.merge(models[1:], "task_arithmetic", models[0])
print(pages() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc")
def test_a_merge_is_handed_little_more_memory_than_the_merged_model_takes():
    # A process of its own: in this one large pieces of memory have come back before.
    found = subprocess.run(
        [sys.executable, "-c", MERGE], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 2 * PAGES_OF_A_MODEL
