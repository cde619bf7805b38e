"""A real S3 server for tests and figures: Ceph's radosgw on one node, in memory.

    python tests/integration/radosgw.py

prints, when it is ready, one line of JSON: the endpoint's `url`, and an access key and
a secret for each of two users, `owner` and `guest`. It then reads commands: `off` stops
the gateway and keeps what is stored, `on` starts it again; each is answered by its own
name. At the end of its input everything is stopped and forgotten.

Where radosgw is missing, root installs it with apt-get; anybody else is told how, and
the exit status is `NOT_INSTALLED`.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "docker"))
from store import Store

NOT_INSTALLED = 77
PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in listeners]


def install() -> str | None:
    """Install radosgw where it is missing and this process may.

    Returns:
        What stands in the way, or None.
    """
    if shutil.which("radosgw") and shutil.which("ceph-osd"):
        return None
    command = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"radosgw is not installed; as root: {' '.join(command)}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update"], command):
        done = subprocess.run(
            step,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        return f"apt-get cannot install radosgw: {done.stdout.decode()[-500:]}"
    return None


@contextlib.contextmanager
def running(port: int, monitor_port: int) -> Generator[Store]:
    """Start a server, and stop it when the block ends.

    Args:
        port: the gateway's.
        monitor_port: the monitor's.

    Yields:
        The server.
    """
    with tempfile.TemporaryDirectory(prefix="radosgw-") as home:
        store = Store(
            Path(home),
            host="127.0.0.1",
            port=port,
            monitor_port=monitor_port,
            capacity=8 << 30,
            in_memory=True,
        )
        try:
            store.start()
            store.serve()
            yield store
        finally:
            store.stop()


def off(store: Store) -> None:
    """Stop the gateway as a power cut would; what was stored is kept."""
    gateway = store.daemons.pop("radosgw")
    gateway.kill()
    gateway.wait()


def main() -> int:
    """Serve until the end of the input.

    Returns:
        The exit status.
    """
    obstacle = install()
    if obstacle is not None:
        sys.stderr.write(f"{obstacle}\n")
        return NOT_INSTALLED
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through the `with` blocks
    port, monitor_port = _free_ports(2)
    users = {
        name: (secrets.token_hex(10), secrets.token_hex(20))
        for name in ("owner", "guest")
    }
    with running(port, monitor_port) as store:
        for name, keys in users.items():
            store.user(name, *keys)
        sys.stdout.write(
            json.dumps({"url": f"http://127.0.0.1:{port}", **users}) + "\n"
        )
        sys.stdout.flush()
        for line in sys.stdin:
            command = line.strip()
            store.serve() if command == "on" else off(store)
            sys.stdout.write(f"{command}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
