"""Runs that end in the middle, and go on where they stopped."""

import os
import random
import signal
import time

import pytest

pytestmark = pytest.mark.slow

SECONDS_TO_GET_THERE = 120


def records(root):
    return len(list(root.glob("records/v1/*/*.jsonl")))


def wait_for(process, root, count):
    deadline = time.monotonic() + SECONDS_TO_GET_THERE
    while records(root) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_that_is_killed_again_and_again_finds_what_an_undisturbed_one_does(
    run, started, file, tables, tmp_path
):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run(file(), "--root", undisturbed)
    draw, total = random.Random(0), records(undisturbed)
    # While models are made and measured, and while cells are scored.
    points = draw.randrange(1, total // 2), draw.randrange(total // 2, total - 1)
    for point in points:
        process = started("run", file(), "--root", killed)
        wait_for(process, killed, point)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        made_before = {
            path: path.stat().st_mtime_ns for path in killed.glob("records/*/*/*")
        }
        assert len(made_before) < total
    run(file(), "--root", killed)
    assert tables(killed) == tables(undisturbed)
    for path, modified in made_before.items():
        assert path.stat().st_mtime_ns == modified
    scored = [path.parent.name for path in killed.glob("records/v1/cell-*/*.jsonl")]
    assert len(scored) == len(set(scored))


def test_an_interrupted_run_ends_soon_and_says_that_nothing_is_lost(
    ask, started, file, tmp_path
):
    root = tmp_path / "root"
    training = {
        name: {"steps": 100_000, "batch_size": 16, "learning_rate": 0.001}
        for name in ("pretrain", "expert", "multitask")
    }
    process = started("run", file(training=training), "--root", root)
    wait_for(process, root, 1)
    time.sleep(3)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "interrupted; what was done is kept" in output
    assert "0 damaged" in ask("verify", "--root", root)
