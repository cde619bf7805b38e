"""A Prefect server for as long as a run lasts.

Prefect's own fallback, the ephemeral server, takes long to start and loses most task
run records, so `run` starts a real server on a free loopback port when no API address
is set, and stops it at the end. The server runs under a small guard process that ends
it as soon as the run's end of a pipe closes: even a run that is killed leaves none.
"""

import contextlib
import fcntl
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from mergegrid.errors import MergegridError

SECONDS_TO_START = 180.0
"""A new database takes 15-32 s on two busy cores; far more means that it hangs."""

SECONDS_BETWEEN_LOOKS = 0.2
"""Between two questions whether it answers yet."""

SECONDS_TO_STOP = 10.0
"""After that a server that was asked to stop is killed."""

SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # Children of a cancelled run end with it, and free slots are seen, in seconds.
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "5",
    "PREFECT_SERVER_TASKS_TAG_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
    # Leases on disk survive a restart; with leases in memory a slot stays taken.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # Larger batches: the server needs 7-12 ms of CPU a task run instead of 41-53 ms.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
}
"""What a server of ours is started with (docs/decisions say what was measured)."""


class ServerError(MergegridError):
    """The Prefect server did not start."""


@dataclass(frozen=True)
class LocalServer:
    """A Prefect server that is starting, or runs."""

    api: str
    """The address of its API, such as `http://127.0.0.1:41213/api`."""

    log: Path
    """The file that it writes its log to."""

    guard: "subprocess.Popen[bytes]"
    """The process that watches over it."""

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            ServerError: if it ends, or does not answer in time.
        """
        started = time.monotonic()
        while time.monotonic() - started < SECONDS_TO_START:
            if self.guard.poll() is not None:
                raise ServerError(
                    f"The Prefect server ended at start; its log is {self.log}. "
                    "Set PREFECT_API_URL to use a server that runs already."
                )
            try:
                with urllib.request.urlopen(f"{self.api}/health", timeout=2):
                    return
            except OSError:
                time.sleep(SECONDS_BETWEEN_LOOKS)
        raise ServerError(
            f"The Prefect server did not answer within {SECONDS_TO_START:.0f} s; its "
            f"log is {self.log}. Set PREFECT_API_URL to use one that runs already."
        )


@contextlib.contextmanager
def local_server(home: Path) -> Generator[LocalServer]:
    """Start a Prefect server, and stop it when the block ends.

    Args:
        home: a directory that keeps its database and log between runs.

    Yields:
        The server, which may still be starting.
    """
    with _free_home(home) as own:
        port = _free_port()
        log = own / "server.log"
        with log.open("ab") as output:
            guard = subprocess.Popen(
                [sys.executable, "-m", "flows.server", str(port)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Its own session: a Ctrl-C in the terminal is for the run alone.
                start_new_session=True,
                env=_environment(own, port),
                cwd=Path(__file__).parent.parent,
            )
        try:
            yield LocalServer(f"http://127.0.0.1:{port}/api", log, guard)
        finally:
            if guard.stdin is not None:
                guard.stdin.close()
            try:
                guard.wait(SECONDS_TO_STOP + 5)
            except subprocess.TimeoutExpired:
                os.killpg(guard.pid, signal.SIGKILL)
                guard.wait()


@contextlib.contextmanager
def _free_home(home: Path) -> Generator[Path]:
    """Take a directory that no other server uses: two cannot share a database."""
    for number in itertools.count(1):
        own = home if number == 1 else home.with_name(f"{home.name}-{number}")
        own.mkdir(parents=True, exist_ok=True)
        with (own / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield own
            return


def _environment(home: Path, port: int) -> dict[str, str]:
    kept = {key: os.environ[key] for key in os.environ if key != "PREFECT_API_URL"}
    return {
        **SETTINGS,
        **kept,
        "PREFECT_HOME": str(home),
        # The page asks this port for its data; --port alone leaves it at 4200.
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _guard(port: str) -> int:
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--port", port],
        stdin=subprocess.DEVNULL,
    )

    def watch() -> None:
        # The read ends when the run closes its end of the pipe, or dies.
        sys.stdin.buffer.read()
        server.send_signal(signal.SIGINT)
        try:
            server.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            # The server's own children share this process group.
            os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1]))
