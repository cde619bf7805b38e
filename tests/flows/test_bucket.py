"""A grid on a real S3 server, by two machines at once, while the server goes away."""

import time
from pathlib import Path

import boto3
import pytest

from storage.root import Root

pytestmark = pytest.mark.slow

GRID = [
    {
        "methods": [
            "average",
            {"name": "task_arithmetic", "options": {"scale": [0.1, 0.5]}},
            {"name": "ties", "options": {"scale": [0.5, 1.0]}},
            {"name": "regmean", "options": {"off_diagonal": [0, 0.9]}},
        ]
    }
]

SECONDS = 240
"""More than a run of this takes on a machine that has much else to do."""

SECONDS_AWAY = 6


def wait_for(condition, machines):
    deadline = time.monotonic() + SECONDS
    while not condition():
        for machine in machines:
            assert machine.poll() is None, machine.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def bucket(at_radosgw, tmp_path):
    """Name a root in a new bucket."""
    name = f"grid-{time.time_ns()}"
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=at_radosgw.url)
    client.create_bucket(Bucket=name)
    return f"s3://{name}/{tmp_path.name}"


def holders(secret, *places):
    """Name the files that hold a secret."""
    return [
        path
        for place in places
        for path in Path(place).rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]


@pytest.mark.usefixtures("at_radosgw")  # first: the other fixtures copy what it sets
def test_two_machines_on_a_bucket_that_goes_away_find_what_one_in_a_directory_does(
    ask, started, file, tables, bucket, at_radosgw, environment, server_home,
    tmp_path,
):  # fmt: skip
    experiment, here = file(grid=GRID), tmp_path / "here"
    machines = []
    for name in ("one", "two"):
        environment["XDG_CACHE_HOME"] = str(tmp_path / name)
        machines.append(started("run", experiment, "--root", bucket))
    root = Root.open(bucket)
    wait_for(lambda: len(root.find("records")) >= 4, machines)
    at_radosgw.tell("off")
    undisturbed = started("run", experiment, "--root", here)
    time.sleep(SECONDS_AWAY)
    assert [machine.poll() for machine in machines] == [None, None]
    at_radosgw.tell("on")
    machines.append(undisturbed)
    output = [machine.communicate(timeout=SECONDS)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0, 0], output
    assert "does not answer" in output[0] + output[1]
    assert tables(bucket) == tables(here)
    found = ask("verify", "--root", bucket)
    assert "0 damaged" in found
    ask("rebuild", "--root", bucket)
    assert tables(bucket) == tables(here)
    assert "0 things " in ask("gc", "--root", bucket, "--delete", "--grace-days", "0")
    assert root.find("claims") == root.find("turns") == {}

    key, secret = at_radosgw.owner
    stored = b"".join(map(root.read, root.find()))
    for text in (key, secret):
        assert text not in "".join(output)
        assert text.encode() not in stored
        assert not holders(text, tmp_path, server_home)
