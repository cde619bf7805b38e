"""The local copies of a bucket's artifacts, kept within a size."""

import multiprocessing
import os
import shutil
from contextlib import contextmanager

import pytest
import torch

from mergegrid.errors import InputError
from storage import room
from storage.artifacts import ArtifactStore, load_tensors, save_tensors
from storage.root import Root

FORK = multiprocessing.get_context("fork")

ARTIFACTS = 7

SIZE = 100_000
"""Bytes of an artifact, about."""


@pytest.fixture(scope="module")
def stored(bucket, s3_server, tmp_path_factory):
    """Name a root in a bucket with some artifacts, which all tests share."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", s3_server)
        environment.setenv("AWS_ACCESS_KEY_ID", "tester")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        store = ArtifactStore(Root.open(f"s3://{bucket}/cached"))
        for i in range(ARTIFACTS):
            with store.write(f"a-v1-{i}", "a", 1, {}, {}) as draft:
                tensors = {"t": torch.full((SIZE // 4,), float(i))}
                save_tensors(draft / "t.safetensors", tensors)
    return store.root.url


@pytest.fixture
def store(stored, bucket_url):
    """Some artifacts in a bucket, without any copies yet."""
    assert bucket_url  # for the environment that it comes with
    return ArtifactStore(Root(stored))


def value(store, i, **options):
    path = store.path(f"a-v1-{i}", **options) / "t.safetensors"
    return load_tensors(path)["t"].unique().item()


def copies(store):
    """Which artifacts have copies."""
    found = (store.root.cache / "artifacts").glob("*/*/*")
    return {int(path.parts[-3].rpartition("-")[2]) for path in found}


def fresh(store):
    """The store as a process finds it that has used nothing yet."""
    return ArtifactStore(Root(store.root.url))


def age(store, *order):
    """Make it long ago that copies were used, in this order."""
    for seconds, i in enumerate(order):
        (lock,) = (store.root.cache / "artifacts").glob(f"a-v1-{i}/*.lock")
        os.utime(lock, (seconds, seconds))


@contextmanager
def limit(monkeypatch, artifacts):
    with monkeypatch.context() as patched:
        patched.setenv("MERGEGRID_CACHE_SIZE", f"{artifacts * SIZE * 1.01}")
        yield


@contextmanager
def used_by_another_process(store, *artifacts):
    def use():
        mine = fresh(store)
        for i in artifacts:
            value(mine, i)
        there.send("used")
        there.recv()

    here, there = FORK.Pipe()
    process = FORK.Process(target=use)
    process.start()
    try:
        assert here.recv() == "used"
        yield process
    finally:
        here.send("done")
        process.join()
        here.close()
        there.close()


def test_the_least_recently_used_copies_go_when_room_is_needed(store, monkeypatch):
    for i in range(4):
        value(fresh(store), i)
    age(store, 1, 0, 3, 2)
    with limit(monkeypatch, 4):
        assert value(store, 4) == 4
    assert copies(store) == {3, 2, 4}


def test_a_cache_that_is_too_small_for_everything_gives_everything(store, monkeypatch):
    monkeypatch.setattr(room, "_HELD", 1)
    with limit(monkeypatch, 2):
        for i in (*range(ARTIFACTS), 0, 6, 3):
            assert value(store, i) == i
            assert len(copies(store)) <= 2


def test_a_size_that_everything_exceeds_stops_nobody(store, monkeypatch):
    monkeypatch.setenv("MERGEGRID_CACHE_SIZE", "0")
    monkeypatch.setattr(room, "_HELD", 1)
    assert [value(store, i) for i in range(3)] == [0, 1, 2]


def test_what_another_process_uses_stays_and_goes_when_it_has_ended(store, monkeypatch):
    with used_by_another_process(store, 0, 1):
        monkeypatch.setattr(room, "_HELD", 1)
        age(store, 0, 1)
        with limit(monkeypatch, 3):
            for i in (3, 4, 5):
                value(store, i)
        assert {0, 1} <= copies(store)
    with limit(monkeypatch, 3):
        value(store, 2)
        value(store, 6)
    assert copies(store) & {0, 1} == set()


def test_what_a_killed_process_used_does_not_stay_for_ever(store, monkeypatch):
    with used_by_another_process(store, 0, 1) as process:
        monkeypatch.setattr(room, "_HELD", 1)
        process.kill()
        process.join()
        age(store, 0, 1)
        with limit(monkeypatch, 3):
            for i in (3, 4, 5):
                value(store, i)
    assert copies(store) & {0, 1} == set()


def test_what_is_kept_stays_and_other_copies_go(store, monkeypatch):
    monkeypatch.setattr(room, "_HELD", 1)
    with limit(monkeypatch, 3):
        path = store.path("a-v1-0", keep=True)
        age(store, 0)
        for i in range(1, ARTIFACTS):
            value(store, i)
        assert value(store, 0) == 0
    assert (path / "t.safetensors").exists()
    assert len(copies(store)) <= 3


def test_tensors_that_were_mapped_outlive_their_copy(store, monkeypatch):
    monkeypatch.setattr(room, "_HELD", 1)
    with limit(monkeypatch, 1):
        tensors = load_tensors(store.path("a-v1-5") / "t.safetensors")
        value(store, 1)
        value(store, 2)
    assert 5 not in copies(store)
    assert tensors["t"].unique().tolist() == [5]


def test_a_cache_that_somebody_removes_is_filled_again(store):
    value(store, 1)
    shutil.rmtree(store.root.cache)
    assert value(store, 1) == 1
    assert copies(store) == {1}


def test_processes_that_share_a_cache_that_is_too_small_read_what_they_ask_for(
    store, monkeypatch
):

    monkeypatch.setattr(room, "_HELD", 1)

    def use(first):
        mine = fresh(store)
        for turn in range(20):
            i = (first + 3 * turn) % ARTIFACTS
            assert value(mine, i) == i

    with limit(monkeypatch, 2):
        processes = [FORK.Process(target=use, args=(i,)) for i in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20 GB", 20 * 10**9),
        ("1.5tb", 1500 * 10**9),
        ("7", 7),
        (" 3 M ", 3 * 10**6),
        ("2kb", 2000),
    ],
)
def test_a_size_is_a_number_with_a_unit(monkeypatch, text, size):
    monkeypatch.setenv("MERGEGRID_CACHE_SIZE", text)
    assert room.cache_size() == size


@pytest.mark.parametrize("text", ["", "much", "-1", "3 parsecs", "nan", "GB"])
def test_what_is_no_size_is_refused(monkeypatch, text):
    monkeypatch.setenv("MERGEGRID_CACHE_SIZE", text)
    with pytest.raises(InputError, match="give a size such as 20 GB"):
        room.cache_size()
