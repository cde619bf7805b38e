"""Commands whose bucket cannot be reached, or not be used: one line, and no secret."""

import os
import socket
import threading
from contextlib import closing

import pytest

from storage.patience import Patience
from tasks.progress import stop

SECRET = "never-stored-never-logged"

COMMANDS = {
    "run": True,
    "plan": True,
    "report": True,
    "sql": "SELECT 1",
    "verify": False,
    "rebuild": False,
    "gc": False,
    "compact": False,
}
"""Command to its argument: the experiment's file, something else, or nothing."""


@pytest.fixture
def refused(ask, file, monkeypatch, tmp_path):
    """Give the line that a command says no with."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))

    def refused(command, root="s3://bucket/prefix"):
        argument = COMMANDS[command]
        arguments = [file() if argument is True else argument] if argument else []
        text = ask(command, *arguments, "--root", root, status=2)
        assert text.startswith("error: ")
        assert len(text.splitlines()) == 1
        assert SECRET not in text
        return text

    return refused


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_away_at_the_start_is_said_at_once(
    refused, monkeypatch, command
):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{place}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert f"s3://bucket/prefix: {place} does not answer" in refused(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_root_with_credentials_in_it_is_refused_before_anything_is_asked(
    refused, command
):
    assert "credentials belong in" in refused(command, f"s3://me:{SECRET}@bucket/p")


@pytest.mark.parametrize("command", COMMANDS)
def test_credentials_that_are_missing_are_asked_for(refused, command):
    assert "set AWS_ACCESS_KEY_ID" in refused(command)


def test_an_interrupt_ends_every_wait_for_a_server_that_is_away(monkeypatch):
    monkeypatch.setattr("tasks.progress._stopping", threading.Event())
    monkeypatch.setattr("storage.patience._ended", threading.Event())
    monkeypatch.setattr("storage.patience.SHORTEST_WAIT", 600.0)

    def away():
        threading.Timer(0.05, stop).start()
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        Patience("a bucket").call(away)
