"""An S3 store of one node on a volume: Ceph's monitor, storage daemon and radosgw.

    python3 store.py /store --bucket mergegrid

makes the cluster in an empty directory, or starts the one that is there; sees to it
that its only user has the key and the secret in AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, and owns the bucket; and serves until it is told to stop or until
a daemon ends. What it has answered for outlives `kill -9` of everything.

Debian's packages radosgw, ceph-mon, ceph-osd and ceph-common have the programs. Nothing
else is imported than what comes with Python.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from email.utils import formatdate
from pathlib import Path
from types import FrameType
from typing import NoReturn

USER = "mergegrid"
SECONDS_TO_START = 120.0
SECONDS_TO_STOP = 15.0

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = {monitor}
public addr = 127.0.0.1
# Only the gateway can be reached from outside, and it asks for signatures.
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
# After a kill nobody needs to wait long for those who are gone.
objecter tick interval = 0.5
objecter timeout = 1
osd client watch timeout = 5
osd memory target = 1073741824
osd objectstore = {objectstore}
bluestore block size = {capacity}
memstore device bytes = {capacity}
mon data = {home}/mon
osd data = {home}/osd
keyring = {home}/keyring
run dir = {home}
pid file =
admin socket =
# Errors alone are worth a line; they are on standard error.
log to file = false
log to stderr = false
mon cluster log to file = false

[client.rgw]
# Without tcp_nodelay, every small request takes 45 ms.
rgw frontends = beast endpoint={host}:{port} tcp_nodelay=1
rgw enable apis = s3
rgw data = {home}/rgw
"""


class Store:
    """Monitor, storage daemon and gateway of a cluster of one node.

    Args:
        home: the directory for all that they write.
        host: the address that the gateway listens at.
        port: its port.
        monitor_port: the monitor's, on this machine; the same for the store's life.
        capacity: bytes that can be stored; fixed when the store is made.
        in_memory: whether the storage daemon keeps them in memory, for as long as it
            runs, instead of a sparse file.
    """

    daemons: dict[str, "subprocess.Popen[bytes]"]
    """What runs, by program."""

    def __init__(
        self,
        home: Path,
        *,
        host: str,
        port: int,
        monitor_port: int,
        capacity: int,
        in_memory: bool = False,
    ) -> None:
        self.daemons = {}
        self._home = home
        self._url = f"http://127.0.0.1:{port}"
        self._monitor = f"v2:127.0.0.1:{monitor_port}"
        # Written last: without it nothing was ever stored, and it is made afresh.
        self._made = home / "made.json"
        self._new = not self._made.exists()
        if self._new:
            self._ids = {"cluster": str(uuid.uuid4()), "osd": str(uuid.uuid4())}
            for name in ("mon", "osd"):
                shutil.rmtree(home / name, ignore_errors=True)
                (home / name).mkdir()
        else:
            self._ids = json.loads(self._made.read_text())
        (home / "keyring").touch()
        (home / "ceph.conf").write_text(
            CONFIGURATION.format(
                fsid=self._ids["cluster"],
                monitor=self._monitor,
                objectstore="memstore" if in_memory else "bluestore",
                capacity=capacity,
                home=home,
                host=host,
                port=port,
            )
        )

    def start(self) -> None:
        """Start monitor and storage daemon; the first time, make them."""
        if self._new:
            map_ = str(self._home / "monmap")
            address = ("--fsid", self._ids["cluster"], "--addv", "a", self._monitor)
            self._call("monmaptool", "--create", "--clobber", *address, map_)
            self._call("ceph-mon", "-i", "a", "--mkfs", "--monmap", map_)
        self._spawn("ceph-mon", "-i", "a")
        if self._new:
            self._call("ceph", "osd", "new", self._ids["osd"], "0")
            self._call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", self._ids["osd"])
            _write(self._made, json.dumps(self._ids))
        self._spawn("ceph-osd", "-i", "0")

    def user(self, name: str, key: str, secret: str) -> None:
        """Make a user, or give it this key instead of those that it has.

        Args:
            name: the user's name.
            key: its access key.
            secret: what it signs with.
        """
        admin = ("radosgw-admin", "--uid", name)
        pair = ("--access-key", key, "--secret", secret)
        asked = self._run(*admin, "user", "info")
        if asked.returncode:
            self._call(*admin, "user", "create", "--display-name", name, *pair)
            return
        keys = json.loads(asked.stdout)["keys"]
        known = {entry["access_key"]: entry["secret_key"] for entry in keys}
        if known.get(key) != secret:
            self._call(*admin, "key", "create", *pair)
        for other in known.keys() - {key}:
            self._call(*admin, "key", "rm", "--access-key", other)

    def serve(self) -> None:
        """Start the gateway, and wait until it answers."""
        self._spawn("radosgw", "-n", "client.rgw")
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                urllib.request.urlopen(self._url, timeout=10).close()
            except OSError:
                ended = self.daemons["radosgw"].poll() is not None
                if ended or time.monotonic() > deadline:
                    sys.exit("radosgw does not answer")
                time.sleep(0.1)
            else:
                return

    def make_bucket(self, bucket: str, key: str, secret: str) -> None:
        """Make a bucket; one that its owner has already stays as it is.

        Args:
            bucket: its name.
            key: the owner's access key.
            secret: what the owner signs with.
        """
        date = formatdate(usegmt=True)
        text = f"PUT\n\n\n{date}\n/{bucket}".encode()
        signature = hmac.digest(secret.encode(), text, hashlib.sha1)
        signed = f"AWS {key}:{base64.b64encode(signature).decode()}"
        headers = {"Date": date, "Authorization": signed}
        request = urllib.request.Request(
            f"{self._url}/{bucket}", headers=headers, method="PUT"
        )
        try:
            urllib.request.urlopen(request, timeout=SECONDS_TO_START).close()
        except urllib.error.HTTPError as error:
            sys.exit(f"radosgw makes no bucket {bucket}: {error.read().decode()}")

    def watch(self) -> str:
        """Wait until a daemon ends.

        Returns:
            Its name.
        """
        while True:
            for name, process in self.daemons.items():
                if process.poll() is not None:
                    return name
            time.sleep(0.5)

    def stop(self) -> None:
        """Stop what runs: the gateway first, the monitor last."""
        for process in reversed(self.daemons.values()):
            process.terminate()
            try:
                process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _spawn(self, program: str, *arguments: str) -> None:
        # A daemon must not outlive this process, however it ends.
        guarded = ("setpriv", "--pdeathsig", "KILL", program, *arguments, "-f")
        self.daemons[program] = subprocess.Popen(
            guarded,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
        )

    def _call(self, *command: str) -> None:
        done = self._run(*command)
        if done.returncode:
            # Not the arguments: a secret may be among them.
            sys.exit(f"{command[0]} failed:\n{done.stderr[-2000:]}")

    def _run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_START,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "CEPH_CONF": str(self._home / "ceph.conf"),
            # In a container a daemon often has the process id of the one before it,
            # which is taken for it unless something else tells them apart.
            "CEPH_USE_RANDOM_NONCE": "1",
        }


def _write(path: Path, text: str) -> None:
    """Write a file that is there whole, or not at all."""
    staged = path.with_suffix(".new")
    with staged.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)  # through the `finally` below


def main() -> NoReturn:
    """Serve until a signal, or the end of a daemon."""
    parser = argparse.ArgumentParser(description="An S3 store of one node.")
    parser.add_argument("home", type=Path, help="the directory that keeps everything")
    parser.add_argument("--bucket", required=True, help="is made where it is missing")
    parser.add_argument("--gibibytes", type=int, default=100, help="at most, for good")
    parser.add_argument("--host", default="0.0.0.0", help="where the gateway listens")
    parser.add_argument("--port", type=int, default=7480, help="the gateway's port")
    parser.add_argument("--monitor-port", type=int, default=3300)
    given = parser.parse_args()
    key = os.environ.get("AWS_ACCESS_KEY_ID")
    secret = os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not (key and secret):
        parser.error("AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    store = Store(
        given.home,
        host=given.host,
        port=given.port,
        monitor_port=given.monitor_port,
        capacity=given.gibibytes << 30,
    )
    try:
        store.start()
        store.user(USER, key, secret)
        store.serve()
        store.make_bucket(given.bucket, key, secret)
        sys.stderr.write(f"s3://{given.bucket} is served at port {given.port}\n")
        sys.exit(f"{store.watch()} ended")
    finally:
        store.stop()


if __name__ == "__main__":
    main()
