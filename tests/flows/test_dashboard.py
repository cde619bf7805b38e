"""The dashboard's command: where it listens, what it refuses, how it ends."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from flows.dashboard import CONTENT_POLICY
from storage.root import Root

REPOSITORY = Path(__file__).parent.parent.parent
INTERRUPTED = 130

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path):
    return Root.open(str(tmp_path / "root")).url


@pytest.fixture
def dashboard(root, tmp_path):
    """Start the command; give the process and the address that it says."""
    started = []
    (tmp_path / "home").mkdir()

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", "dashboard", "--root", root, *arguments],
            cwd=REPOSITORY,
            env=os.environ | {"HOME": str(tmp_path / "home")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process, process.stdout.readline().split()[1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def listeners(process):
    """Say at which addresses a process listens, in Linux's own words."""
    inodes = {
        str(link.readlink())
        for link in Path(f"/proc/{process.pid}/fd").iterdir()
        if link.is_symlink()
    }
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                found.add(words[1].partition(":")[0])
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_listens_on_this_machine_alone_and_ends_without_a_word(
    dashboard, tmp_path, number
):
    process, address = dashboard()
    assert listeners(process) == {"0100007F"}  # 127.0.0.1
    with urllib.request.urlopen(f"{address}/costs") as page:
        text = page.read().decode()
        assert page.headers["Content-Security-Policy"] == CONTENT_POLICY
    assert "<title>mergegrid</title>" in text
    process.send_signal(number)
    assert process.communicate(timeout=30)[0].strip() == ""
    assert process.returncode in {INTERRUPTED, -number}
    assert not [*(tmp_path / "home").iterdir()]  # nothing is left with the user


def test_a_second_one_finds_a_port_of_its_own(dashboard):
    (_, one), (_, other) = dashboard(), dashboard()
    assert one != other
    for address in (one, other):
        with urllib.request.urlopen(f"{address}/_stcore/health") as answer:
            assert answer.read() == b"ok"


def test_a_port_that_is_taken_is_one_line(ask, root):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = ask("dashboard", "--root", root, "--port", port, status=2)
    assert said == (
        f"error: Cannot listen at 127.0.0.1, port {port}: Address already in use. "
        "Choose another --host or --port.\n"
    )


def test_an_address_of_another_machine_is_one_line(ask, root):
    said = ask("dashboard", "--root", root, "--host", "192.0.2.1", status=2)
    assert said.startswith("error: Cannot listen at 192.0.2.1")
    assert said.count("\n") == 1


def test_a_root_that_is_not_there_is_one_line(ask, tmp_path):
    said = ask("dashboard", "--root", tmp_path / "nowhere", status=2)
    assert said.startswith("error: Cannot read")
    assert not (tmp_path / "nowhere").exists()
