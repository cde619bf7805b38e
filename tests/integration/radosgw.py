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
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Generator
from pathlib import Path

NOT_INSTALLED = 77
PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")
SECONDS_TO_START = 90.0

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
# With authentication off, clients hang without this line.
ms mon client mode = crc secure
# Changes of the cluster's map wait a second by default, and there are many at start.
paxos propose interval = 0.02
paxos min wait = 0.01
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = {memory}
mon data = {home}/mon
osd data = {home}/osd
keyring = {home}/keyring
log file = {home}/$name.log
run dir = {home}
admin socket =

[client.rgw]
# Without tcp_nodelay, every small request takes 45 ms.
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw enable apis = s3
rgw data = {home}/rgw
"""


class Server:
    """Monitor, storage daemon and gateway of a cluster of one node.

    Args:
        home: an empty directory for all that they write.
        memory: bytes that can be stored.
    """

    def __init__(self, home: Path, memory: int = 8 << 30) -> None:
        self._home = home
        self._running = dict[str, subprocess.Popen[bytes]]()
        v1, v2, self._port = _free_ports(3)
        self._monitor = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
        self._fsid = str(uuid.uuid4())
        self._configuration = home / "ceph.conf"
        self._configuration.write_text(
            CONFIGURATION.format(
                fsid=self._fsid, v1=v1, v2=v2, port=self._port, home=home, memory=memory
            )
        )
        for directory in ("mon", "osd"):
            (home / directory).mkdir()
        (home / "keyring").touch()
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Make the cluster, and wait until its gateway answers."""
        map_, osd = str(self._home / "monmap"), str(uuid.uuid4())
        address = ("--fsid", self._fsid, "--addv", "a", self._monitor)
        self._call("monmaptool", "--create", *address, map_)
        self._call("ceph-mon", "-i", "a", "--mkfs", "--monmap", map_)
        self._spawn("ceph-mon", "-i", "a")
        self._call("ceph", "osd", "new", osd, "0")
        self._call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._spawn("ceph-osd", "-i", "0")
        self.on()

    def on(self) -> None:
        """Start the gateway."""
        gateway = self._spawn("radosgw", "-n", "client.rgw")
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=1).close()
            except urllib.error.HTTPError:
                return
            except OSError:
                if gateway.poll() is not None or time.monotonic() > deadline:
                    log = (self._home / "client.rgw.log").read_text()[-2000:]
                    raise RuntimeError(f"radosgw did not start:\n{log}") from None
                time.sleep(0.1)
            else:
                return

    def off(self) -> None:
        """Stop the gateway as a power cut would; what was stored is kept."""
        gateway = self._running.pop("radosgw")
        gateway.kill()
        gateway.wait()

    def stop(self) -> None:
        """Stop everything; nothing is kept, so nothing has to end in good order."""
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.wait()

    def user(self, name: str) -> tuple[str, str]:
        """Make a user.

        Args:
            name: of the user.

        Returns:
            Access key and secret.
        """
        key, secret = secrets.token_hex(10), secrets.token_hex(20)
        self._call(
            *("radosgw-admin", "user", "create", "--uid", name, "--display-name", name),
            *("--access-key", key, "--secret", secret),
        )
        return key, secret

    def _spawn(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self._home / f"{program}.out").open("ab") as output:
            self._running[program] = subprocess.Popen(
                # A daemon must not outlive this process, however it ends.
                ["setpriv", "--pdeathsig", "KILL", program, *arguments, "-f"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self._running[program]

    def _call(self, *command: str) -> None:
        done = subprocess.run(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS_TO_START,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stdout.decode()[-2000:]}")

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CEPH_CONF": str(self._configuration)}


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
def running() -> Generator[Server]:
    """Start a server, and stop it when the block ends.

    Yields:
        The server.
    """
    with tempfile.TemporaryDirectory(prefix="radosgw-") as home:
        server = Server(Path(home))
        try:
            server.start()
            yield server
        finally:
            server.stop()


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
    with running() as server:
        users = {name: server.user(name) for name in ("owner", "guest")}
        sys.stdout.write(json.dumps({"url": server.url, **users}) + "\n")
        sys.stdout.flush()
        for line in sys.stdin:
            command = line.strip()
            {"on": server.on, "off": server.off}[command]()
            sys.stdout.write(f"{command}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
