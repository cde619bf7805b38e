"""A grid that several workers share, started over the API as the UI does it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parent.parent.parent
SECONDS = 600
BUSY = 503
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
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != BUSY:
                    raise
                time.sleep(0.5)

    def start(self, deployment, **parameters):
        name = {"name": {"any_": [deployment]}}
        (found,) = self.ask("/deployments/filter", {"deployments": name})
        path = f"/deployments/{found['id']}/create_flow_run"
        return self.ask(path, {"parameters": parameters})["id"]

    def set_state(self, run, **state):
        told = self.ask(f"/flow_runs/{run}/set_state", {"state": state})
        assert told["status"] == "ACCEPT"

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


class Workers:
    """Worker processes, started and killed."""

    def __init__(self, server, log):
        self.server = server
        self._environment = os.environ | {
            "PREFECT_API_URL": server,
            "OMP_NUM_THREADS": "1",
        }
        self._log = log
        self._processes = {}

    def flows(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "flows", *arguments],
            cwd=REPOSITORY, env=self._environment,
            stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip

    def start(self, pool, name):
        self._processes[name] = self.flows("worker", pool, "--name", name)

    def kill(self, name):
        process = self._processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_all(self):
        for name in [*self._processes]:
            self.kill(name)


@pytest.fixture(scope="module")
def workers(server, tmp_path_factory):
    """Deploy to the session's server, and let three workers stand by."""
    with (tmp_path_factory.mktemp("workers") / "log").open("w+") as log:
        made = Workers(server, log)
        if made.flows("deploy", "--gpus", "2").wait():
            log.seek(0)
            pytest.fail(log.read())
        for pool, name in {"cpu": "c", "gpu": "g"}.items():
            made.start(pool, name)
        made.start("gpu", "h")
        yield made
        made.kill_all()


@pytest.fixture
def prefect(workers):
    """Ask the server that the workers work for."""
    return Prefect(workers.server)


FEW = [{"methods": ["average", {"name": "ties", "options": {"scale": [0.5, 1.0]}}]}]
"""A grid of few shares: each takes as long to start as all that they do."""


def test_a_retried_grid_goes_on_where_its_lost_machine_stopped_and_does_nothing_twice(
    prefect, workers, run, file, tables, tmp_path
):
    alone, root = tmp_path / "alone", tmp_path / "root"
    path = file(grid=FEW)
    grid = prefect.start("grid", file=str(path), root=str(root))
    (handed_out,) = prefect.wait(lambda: prefect.shares(grid))
    pid = prefect.run(grid)["infrastructure_pid"].rpartition(":")[2]
    workers.kill("c")
    os.kill(int(pid), signal.SIGKILL)
    # Nobody is left to report that; the server finds out in a minute and a half.
    prefect.set_state(grid, type="CRASHED")
    workers.start("cpu", "d")
    # As the button in the UI does it:
    retry = {"name": "AwaitingRetry", "message": "Retry from the UI"}
    prefect.set_state(grid, type="SCHEDULED", **retry)
    run(path, "--root", alone)
    assert prefect.ended(grid)["state_type"] == "COMPLETED"
    assert tables(root) == tables(alone)
    shares = prefect.shares(grid)
    assert handed_out["id"] in {share["id"] for share in shares}
    assert {share["state_type"] for share in shares} == {"COMPLETED"}
    keys = [key for share in shares for key in share["parameters"]["keys"]]
    assert len(keys) == len(set(keys))
    # The same again is a matter of looking: nothing is handed out.
    grid = prefect.start("grid", file=str(path), root=str(root))
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
    prefect.set_state(grid, type="CANCELLING")
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


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"metods": {"ties": {}}}, "'metods' was unexpected"),
        ({"methods": {"ties": {"densty": [0.2]}}}, "'densty' was unexpected"),
        ({"methods": {"regmean": {"off_diagonal": [2]}}}, "off_diagonal[0]"),
    ],
)
def test_parameters_that_cannot_be_are_refused_by_name_before_there_is_a_run(
    prefect, parameters, named
):
    with pytest.raises(urllib.error.HTTPError) as refused:
        prefect.start("grid", **parameters)
    assert named in json.load(refused.value)["detail"]
