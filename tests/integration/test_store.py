"""The store of `docker/`, on a disk, as a power cut leaves it."""

import importlib.util
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "docker" / "store.py"


@pytest.fixture
def open_store(tmp_path, request):
    """Start the store of a directory; at the end, all that was started is killed."""
    request.getfixturevalue("radosgw")  # where one runs, the programs are installed
    spec = importlib.util.spec_from_file_location("store", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    opened = []

    def start():
        store = module.Store(
            tmp_path, host="127.0.0.1", port=1, monitor_port=port, capacity=1 << 30
        )
        opened.append(store)
        store.start()
        return store

    yield start
    for store in opened:
        kill(store)


def kill(store):
    for daemon in store.daemons.values():
        daemon.kill()
        daemon.wait()


def keys(home):
    asked = subprocess.run(
        ["radosgw-admin", "user", "info", "--uid", "somebody"],
        env=os.environ | {"CEPH_CONF": str(home / "ceph.conf")},
        stdout=subprocess.PIPE,
        check=True,
    )
    found = json.loads(asked.stdout)["keys"]
    return {key["access_key"]: key["secret_key"] for key in found}


def test_what_a_store_was_told_outlives_the_death_of_all_its_daemons(
    open_store, tmp_path
):
    store = open_store()
    store.user("somebody", "first-key", "first-secret")
    kill(store)
    store = open_store()
    assert keys(tmp_path) == {"first-key": "first-secret"}
    store.user("somebody", "second-key", "second-secret")
    assert keys(tmp_path) == {"second-key": "second-secret"}
