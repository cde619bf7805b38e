"""A Prefect server for all tests, and the command line as its users start it."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from flows.__main__ import main
from storage.ledger import Ledger
from storage.results import Results
from storage.root import Root

REPOSITORY = Path(__file__).parent.parent.parent

USER_ERROR = 2

TINY = {
    "name": "tiny",
    "suite": {
        "name": "glyphs",
        "categories": 3,
        "classes_per_category": 2,
        "train": 8,
        "validation": 4,
        "test": 4,
        "generalization": 2,
        "pretraining": 4,
        "layers": 1,
        "width": 32,
        "digits": False,
    },
    "training": {
        "pretrain": {"steps": 8, "batch_size": 16, "learning_rate": 0.002},
        "expert": {"steps": 3, "batch_size": 8, "learning_rate": 0.001},
        "multitask": {"steps": 3, "batch_size": 8, "learning_rate": 0.001},
    },
    "statistics": {"fisher": {"examples": 4}, "gram": {"examples": 4}},
    "grid": [
        {
            "methods": [
                "average",
                "mlerp",
                {"name": "task_arithmetic", "options": {"scale": [0.1, "1/M", 1]}},
                {"name": "dare", "options": {"drop_rate": [0.3, 0.6]}},
                {"name": "ties", "options": {"scale": [0.5, 1.0]}},
                "fisher",
                {"name": "regmean", "options": {"off_diagonal": [0, 0.9]}},
                {"name": "mats", "options": {"iterations": [5, 10]}},
                {"name": "tall_masks", "options": {"mask_threshold": [0.3, 0.6]}},
                {"name": "consensus", "options": {"agreement": 1, "scale": 0.5}},
            ]
        },
        {
            "subsets": {"nested": {"sizes": [2], "samples": 2}},
            "methods": ["average", "slerp"],
        },
    ],
}
"""Every method on the smallest glyphs: 17 cells of 3 experts, 4 of 2, in seconds."""


@pytest.fixture(scope="session")
def server_home(tmp_path_factory):
    """Name the directory with the Prefect server's database and log."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def server(server_home):
    """Run one Prefect server for the whole session."""
    from flows.server import local_server

    with local_server(server_home) as running:
        running.wait()
        yield running.api


def a_shells(server):
    """Set what a shell would, and nothing of the shell that runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "MERGEGRID_"))
    }
    return kept | {"PREFECT_API_URL": server, "OMP_NUM_THREADS": "1"}


def command(environment, *arguments):
    """Run `python -m flows`, in a process of its own; give all that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "flows", *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def environment(server):
    """Give the environment of the commands that a test starts, to be changed by it."""
    return a_shells(server)


@pytest.fixture
def run(environment):
    """Run `python -m flows run`, in a process of its own; give all that it prints."""
    return partial(command, environment, "run")


@pytest.fixture(scope="session")
def undisturbed(server, tmp_path_factory):
    """Name a root at which the tiny experiment was run, for many to compare with."""
    home = tmp_path_factory.mktemp("undisturbed")
    path = home / "experiment.yaml"
    path.write_text(yaml.safe_dump(TINY))
    command(a_shells(server), "run", path, "--root", home / "root")
    return home / "root"


@pytest.fixture
def ask(monkeypatch, capsys):
    """Give a command other than `run`, in this process; give what it prints."""

    def ask(*arguments, status=0):
        monkeypatch.setattr(sys, "argv", ["flows", *map(str, arguments)])
        ended = main()
        shown = capsys.readouterr()
        assert ended == status, shown.out + shown.err
        return shown.err if status == USER_ERROR else shown.out

    return ask


@pytest.fixture
def started(environment):
    """Start `python -m flows` and leave it running; it is killed at the end."""
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", *map(str, arguments)],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def file(tmp_path):
    """Write an experiment file; keyword arguments replace its sections."""

    def write(**sections):
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump(TINY | sections))
        return path

    return write


@pytest.fixture
def tables():
    """Read what experiments found, without what depends on the clock."""

    def read(root):
        place = Root.open(str(root))
        results = Results(place, Ledger(place))
        results.refresh()
        queries = (
            "SELECT * EXCLUDE (record) FROM scores ORDER BY ALL",
            "SELECT * EXCLUDE (record) FROM cells ORDER BY ALL",
            "SELECT * EXCLUDE (record) FROM lineage ORDER BY ALL",
            "SELECT artifact, step, version, inputs, bytes FROM artifacts ORDER BY ALL",
            "SELECT step, stage, flops, paper_flops, examples FROM costs ORDER BY ALL",
        )
        return [results.query(query)[1] for query in queries]

    return read
