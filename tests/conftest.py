"""Settings that every test shares, and a real S3 server for those that want one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, settings

from mergegrid.experiment import parse_experiment

settings.register_profile(
    "mergegrid",
    deadline=None,  # shape checks compile on the first call
    derandomize=True,  # a red test stays red
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("mergegrid")
torch.set_num_threads(1)


@pytest.fixture
def experiment():
    """Make a small experiment; keyword arguments replace its sections."""
    document = {
        "name": "tiny",
        "suite": {"name": "glyphs", "categories": 4, "classes_per_category": 2},
        "training": {"pretrain": {}, "expert": {}, "multitask": {}},
        "grid": [{"methods": ["average"]}],
    }

    def make(**sections):
        return parse_experiment(document | sections, source="test")

    return make


RADOSGW = Path(__file__).parent / "integration" / "radosgw.py"
NOT_INSTALLED = 77


@pytest.fixture(scope="session")
def radosgw():
    """Start Ceph's S3 server, installed where it is missing and this process may.

    It has a `url`, `(key, secret)` of an `owner` and a `guest`, and can be told to go
    `off` and `on` again.
    """
    with subprocess.Popen(
        [sys.executable, RADOSGW],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        ready = process.stdout.readline()
        if not ready and process.wait() == NOT_INSTALLED:
            pytest.skip(process.stderr.read())
        assert ready, process.stderr.read()

        def tell(command):
            process.stdin.write(f"{command}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{command}\n"

        yield SimpleNamespace(**json.loads(ready), tell=tell)
        process.stdin.close()


@pytest.fixture
def at_radosgw(radosgw, monkeypatch, tmp_path):
    """Set what a shell would to use the server as its owner; give the server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", radosgw.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", radosgw.owner[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", radosgw.owner[1])
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return radosgw
