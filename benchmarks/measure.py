"""What something costs: processor time, wall time and memory.

Nothing here imports more than the standard library: a process takes over the peak
memory of the one that started it, so whoever measures processes must be small.
"""

import os
import platform
import re
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

LOOK_SECONDS, QUIET_LOOKS, QUIET_SHARE = 1.0, 3, 0.15
"""The machine is at peace if others use less than this share of a processor, each time
of so many looks in a row."""


class CommandError(Exception):
    """A command that was measured has failed."""


@dataclass(frozen=True)
class Usage:
    """What something cost."""

    user_seconds: float
    """Processor time of all threads in the program itself."""

    system_seconds: float
    """Processor time of all threads in the kernel. Memory that a virtual machine has
    not used for a while is dear to touch: where this is large, measure again."""

    wall_seconds: float
    """Time on the clock."""

    peak_bytes: int
    """Of a process: its largest resident set. Of a call: by how much more than before
    it was resident at the most."""

    others_seconds: float
    """Processor time of everything else on the machine meanwhile. It makes threads wait
    for one another, and waiting threads use processor time: measure in peace."""

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all threads, in the program and in the kernel."""
        return self.user_seconds + self.system_seconds


def measure_command(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str]
) -> Usage:
    """Run a command and measure the process.

    Args:
        command: program and arguments.
        log: file for what it writes.
        environment: variables that are added to this process's.

    Returns:
        What the process cost, with the processes that it started and waited for.

    Raises:
        CommandError: if it fails.
    """
    with log.open("wb") as output:
        busy, wall = _busy_seconds(), time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        _, status, used = os.wait4(process.pid, 0)
        wall_seconds, all_seconds = time.perf_counter() - wall, _busy_seconds() - busy
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise CommandError(lines[-1] if lines else f"status {process.returncode}")
    return Usage(
        used.ru_utime,
        used.ru_stime,
        wall_seconds,
        used.ru_maxrss * 1024,
        max(0.0, all_seconds - used.ru_utime - used.ru_stime),
    )


def measure_call(call: Callable[[], Result]) -> tuple[Result, Usage]:
    """Call a function and measure it.

    Args:
        call: the function.

    Returns:
        Its result, and what it cost. Memory and what others used are known on Linux
        only, and 0 elsewhere.
    """
    _forget_peak()
    before, busy = _resident("VmRSS"), _busy_seconds()
    start, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    result = call()
    wall_seconds = time.perf_counter() - wall
    end, all_seconds = resource.getrusage(resource.RUSAGE_SELF), _busy_seconds() - busy
    user_seconds = end.ru_utime - start.ru_utime
    system_seconds = end.ru_stime - start.ru_stime
    usage = Usage(
        user_seconds,
        system_seconds,
        wall_seconds,
        max(0, _resident("VmHWM") - before),
        max(0.0, all_seconds - user_seconds - system_seconds),
    )
    return result, usage


def wait_for_peace(patience_seconds: float) -> None:
    """Wait until nothing else keeps the machine busy.

    Args:
        patience_seconds: how long to wait at most.
    """
    end = time.monotonic() + patience_seconds
    quiet = 0
    while quiet < QUIET_LOOKS and time.monotonic() < end:
        busy = _busy_seconds()
        time.sleep(LOOK_SECONDS)
        is_quiet = _busy_seconds() - busy < QUIET_SHARE * LOOK_SECONDS
        quiet = quiet + 1 if is_quiet else 0


def machine() -> str:
    """Describe the machine and how busy it is.

    Returns:
        Processor, number of cores and load averages, in one line.
    """
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        found = re.search(r"model name\s*: (.*)", information.read_text())
        processor = found[1] if found else processor
    load = ", ".join(f"{average:.2f}" for average in os.getloadavg())
    return f"{processor}, {os.cpu_count()} cores, load averages {load}"


def _busy_seconds() -> float:
    # Of all processors together, since the machine started: user, nice, system, and
    # what interrupts took, but not idle or waiting.
    times = Path("/proc/stat")
    if not times.exists():
        return 0.0
    user, nice, system, _, _, *interrupts = map(int, times.read_text().split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _forget_peak() -> None:
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")


def _resident(field: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    found = re.search(rf"{field}:\s*(\d+) kB", status.read_text())
    return int(found[1]) * 1024 if found else 0
