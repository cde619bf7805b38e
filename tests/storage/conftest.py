"""A root of each kind: a directory, and a bucket on an S3 server over HTTP."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from storage.root import Root

SECRET = "never-stored-never-logged"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        command,
        env={**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": "40"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(url, timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield url
        finally:
            server.terminate()


@pytest.fixture
def s3_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> pytest.MonkeyPatch:
    """Credentials, and nothing of the machine's own settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return monkeypatch


@pytest.fixture(scope="session")
def bucket(s3_server: str) -> str:
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=s3_server,
        aws_access_key_id="tester",
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket="mergegrid-tests")
    return "mergegrid-tests"


@pytest.fixture
def bucket_url(
    bucket: str,
    s3_server: str,
    s3_environment: pytest.MonkeyPatch,
) -> str:
    s3_environment.setenv("AWS_ENDPOINT_URL", s3_server)
    return f"s3://{bucket}/prefix/{uuid4().hex}"


@pytest.fixture(params=["directory", "bucket"])
def root_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        return str(tmp_path / "root")
    return request.getfixturevalue("bucket_url")


@pytest.fixture
def root(root_url: str) -> Root:
    return Root.open(root_url)


@pytest.fixture
def in_child() -> Callable[[Callable[[], object]], int]:
    """Run a function in a forked child; give the child's exit status."""

    def run(function: Callable[[], object]) -> int:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                function()
                status = 0
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return run
