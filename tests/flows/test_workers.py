"""A grid that several workers share, started over the API as the UI does it."""

import json
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
SECONDS = 600
ENDS = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


class Prefect:
    """A Prefect server, asked over its API."""

    def __init__(self, api):
        self.api = api

    def ask(self, path, body):
        request = urllib.request.Request(
            self.api + path,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def start(self, deployment, **parameters):
        name = {"name": {"any_": [deployment]}}
        (found,) = self.ask("/deployments/filter", {"deployments": name})
        path = f"/deployments/{found['id']}/create_flow_run"
        return self.ask(path, {"parameters": parameters})["id"]

    def shares(self, run):
        tags = {"flow_runs": {"tags": {"all_": [f"of-{run}"]}}}
        return self.ask("/flow_runs/filter", tags)

    def run(self, run):
        (found,) = self.ask("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return found

    def wait(self, condition):
        deadline = time.monotonic() + SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        return found

    def ended(self, run):
        self.wait(lambda: self.run(run)["state_type"] in ENDS)
        return self.run(run)


@pytest.fixture(scope="module")
def prefect(server, tmp_path_factory):
    """Deploy to the session's server, and let three workers stand by."""
    log = tmp_path_factory.mktemp("workers") / "log"
    environment = os.environ | {"PREFECT_API_URL": server, "OMP_NUM_THREADS": "1"}

    def flows(*arguments):
        return [sys.executable, "-m", "flows", *arguments]

    done = subprocess.run(
        flows("deploy", "--gpus", "2"),
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with log.open("wb") as output:
        processes = [
            subprocess.Popen(
                flows("worker", pool), cwd=REPOSITORY, env=environment,
                stdout=output, stderr=output, start_new_session=True,
            )
            for pool in ("cpu", "gpu", "gpu")
        ]  # fmt: skip
    made = Prefect(server)
    made.workers = processes
    yield made
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_workers_that_share_a_grid_leave_the_tables_of_one_process(
    prefect, run, file, tables, tmp_path
):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    run(file(), "--root", alone)
    grid = prefect.start("grid", file=str(file()), root=str(shared))
    assert prefect.ended(grid)["state_type"] == "COMPLETED"
    assert tables(shared) == tables(alone)
    shares = prefect.shares(grid)
    assert len(shares) > 1
    assert {share["state_type"] for share in shares} == {"COMPLETED"}
    # The same again is a matter of looking: nothing is handed out.
    grid = prefect.start("grid", file=str(file()), root=str(shared))
    assert prefect.ended(grid)["state_type"] == "COMPLETED"
    assert prefect.shares(grid) == []


LONG = {
    name: {"steps": 100_000, "batch_size": 16, "learning_rate": 1e-9, "patience": 10**6}
    for name in ("pretrain", "expert", "multitask")
}


def test_a_cancelled_grid_takes_its_shares_with_it_and_leaves_nothing_half_written(
    prefect, ask, file, tmp_path
):
    root = tmp_path / "root"
    path = file(training=LONG)
    grid = prefect.start("grid", file=str(path), root=str(root))

    def working():
        return [s for s in prefect.shares(grid) if s["state_type"] == "RUNNING"]

    prefect.wait(working)
    cancelling = {"state": {"type": "CANCELLING"}}
    prefect.ask(f"/flow_runs/{grid}/set_state", cancelling)
    assert prefect.ended(grid)["state_type"] == "CANCELLED"
    for share in prefect.shares(grid):
        assert prefect.ended(share["id"])["state_type"] == "CANCELLED"
    assert "0 damaged" in ask("verify", "--root", root)


def test_what_a_user_can_mend_is_the_runs_message(prefect, tmp_path):
    methods = {"task_arithmetic": {"scale": ["much"]}}
    grid = prefect.start("grid", methods=methods, root=str(tmp_path))
    ended = prefect.ended(grid)
    assert ended["state_type"] == "FAILED"
    assert "scale = 'much' is not possible" in ended["state"]["message"]
