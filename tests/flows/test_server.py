import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parent.parent.parent
RUN = """
import sys, time
from pathlib import Path
from flows.server import local_server
with local_server(Path(sys.argv[1])) as server:
    server.wait()
    print(server.api, flush=True)
    time.sleep(300)
"""


def answers(api):
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_the_server_of_a_run_that_is_killed_ends_with_it(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", RUN, tmp_path],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        api = run.stdout.readline().strip()
        assert answers(api)
        os.kill(run.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while answers(api):
        assert time.monotonic() < deadline, "the server outlived its run"
        time.sleep(0.2)
