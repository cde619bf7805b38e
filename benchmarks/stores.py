"""What a root can take: a large payload in and out, many writers on one ledger.

    python -m benchmarks.stores s3://bucket/prefix [--megabytes 200] [--writers 4]
    python -m benchmarks.stores --radosgw

on any root, or on a radosgw that is started for as long as it takes. Every writer is a
process of its own. What was written is removed at the end.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import fsspec

from storage.compaction import compact
from storage.ledger import Ledger
from storage.root import Root

SERVER = Path(__file__).parents[1] / "tests" / "integration" / "radosgw.py"
ROUNDS = 3
RECORDS = 500
ROWS = 10
ROUND_TRIPS = 100


def main() -> None:
    """Measure a root."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?")
    parser.add_argument("--radosgw", action="store_true")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--writers", type=int, default=4)
    given = parser.parse_args()
    if given.radosgw:
        with radosgw() as root:
            measure(root, given.megabytes, given.writers)
    elif given.root:
        measure(given.root, given.megabytes, given.writers)
    else:
        parser.error("give a root, or --radosgw")


@contextmanager
def radosgw() -> Generator[str]:
    """Start a server and make a bucket; the environment leads to it.

    Yields:
        A root in the bucket.
    """
    with subprocess.Popen(
        [sys.executable, SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        os.environ["AWS_ENDPOINT_URL"] = ready["url"]
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = ready[
            "owner"
        ]
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("measured")
        yield "s3://measured/root"
        server.stdin.close()


def measure(url: str, megabytes: int, writers: int) -> None:
    """Measure a root and print what was found."""
    root = Root.open(f"{url.rstrip('/')}/stores-{os.getpid()}")
    try:
        trips(root)
        payload(root, megabytes)
        ledger(root, writers)
    finally:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(root.delete, root.find()))
    say(f"load {os.getloadavg()[0]:.1f}")


def trips(root: Root) -> None:
    """Time one small request after the other."""
    write = timed(lambda: [root.write("small", b"1") for _ in range(ROUND_TRIPS)])
    read = timed(lambda: [root.read("small") for _ in range(ROUND_TRIPS)])
    for verb, seconds in (("write", write), ("read", read)):
        say(f"small {verb}: {1000 * seconds / ROUND_TRIPS:.1f} ms")


def payload(root: Root, megabytes: int) -> None:
    """Time a large file in both directions; the best of some rounds counts."""
    with tempfile.TemporaryDirectory() as name:
        local, copy = Path(name, "payload"), Path(name, "copy")
        local.write_bytes(os.urandom(1_000_000) * megabytes)
        put = min(timed(lambda: root.put_file(local, "large")) for _ in range(ROUNDS))
        get = min(timed(lambda: root.get_file("large", copy)) for _ in range(ROUNDS))
        assert copy.read_bytes() == local.read_bytes()
    for verb, seconds in (("put", put), ("get", get)):
        say(f"{verb} {megabytes} MB: {megabytes / seconds:.0f} MB/s")


def ledger(root: Root, writers: int) -> None:
    """Time writers on one ledger, reading it all, compacting, reading it again."""
    with ProcessPoolExecutor(writers, get_context("spawn")) as pool:
        list(pool.map(abs, range(writers)))  # processes are started and have imported
        writing = timed(
            lambda: list(pool.map(append, [root.url] * writers, range(writers)))
        )
    records = writers * RECORDS
    say(
        f"{writers} writers on one ledger, {ROWS} rows a record: "
        f"{records / writing:.0f} records/s, {records} in {writing:.1f} s"
    )
    found, reading = read_all(root)
    assert found == records
    say(f"read {found} records: {reading:.1f} s")
    say(f"compact them: {timed(lambda: compact(Ledger(root), grace_seconds=0)):.1f} s")
    found, reading = read_all(root)
    assert found == records
    say(f"read {found} records from their segment: {reading:.2f} s")


def append(url: str, writer: int) -> None:
    """Append records, as one machine of several."""
    own = Ledger(Root(url))
    for i in range(RECORDS):
        row = {"table": "scores", "cell": f"{writer}-{i}", "value": i / RECORDS}
        own.append(f"cell-{writer}-{i}", [row | {"task": f"{t}"} for t in range(ROWS)])


def read_all(root: Root) -> tuple[int, float]:
    """Read every record; give their number and the seconds that it took."""
    started = time.perf_counter()
    own = Ledger(root)
    found = sum(1 for _ in own.read(own.list()))
    return found, time.perf_counter() - started


def timed(act: Callable[[], object]) -> float:
    """Give the seconds that something takes."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
