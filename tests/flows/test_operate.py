"""A worker as a service runs it: watched from outside, and told to stop."""

import signal
import socket
import time
import urllib.request

import pytest

pytestmark = pytest.mark.slow

SECONDS_TO_START = 120
SECONDS_TO_STOP = 30
INTERRUPTED = 130


@pytest.fixture
def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_worker_answers_for_its_health_and_stops_when_interrupted(
    environment, started, port
):
    environment["PREFECT_WORKER_WEBSERVER_HOST"] = "127.0.0.1"
    environment["PREFECT_WORKER_WEBSERVER_PORT"] = str(port)
    worker = started("worker", "cpu")
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        assert worker.poll() is None, worker.stdout.read()
        assert time.monotonic() < deadline
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/health", timeout=5
            ) as answer:
                assert answer.status == 200
                break
        except OSError:
            time.sleep(0.2)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(SECONDS_TO_STOP) in {0, INTERRUPTED}
