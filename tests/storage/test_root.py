import errno
import os
import pickle
import resource
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mergegrid.errors import InputError, StorageError
from storage import directory
from storage.patience import end_waiting
from storage.root import Root


def test_what_was_written_is_listed_and_read(root):
    root.write("a/b/one", b"1")
    root.write("a/two", b"22")
    root.write("ab/three", b"333")
    assert root.find("a") == {"a/b/one": 1, "a/two": 2}
    assert set(root.find()) == {"a/b/one", "a/two", "ab/three"}
    assert root.find("nothing/here") == {}
    assert root.read("a/two") == b"22"


def test_writing_again_replaces_moving_renames_and_deleting_twice_is_no_error(root):
    root.write("a", b"old")
    root.write("a", b"new")
    root.move("a", "elsewhere/b")
    assert root.find() == {"elsewhere/b": 3}
    assert root.read("elsewhere/b") == b"new"
    root.delete("elsewhere/b")
    root.delete("elsewhere/b")
    assert root.find() == {}


def test_a_file_survives_the_local_file_that_it_was_made_from(root, tmp_path):
    local = tmp_path / "local"
    local.write_bytes(b"payload")
    root.put_file(local, "stored")
    local.unlink()
    root.get_file("stored", local)
    assert local.read_bytes() == b"payload"


def test_a_missing_file_is_a_file_not_found_error(root, tmp_path):
    with pytest.raises(FileNotFoundError):
        root.read("missing")
    with pytest.raises(FileNotFoundError):
        root.get_file("missing", tmp_path / "copy")


def test_threads_share_a_root(root):
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: root.write(f"f/{i}", b"%d" % i), range(64)))
        contents = list(pool.map(lambda i: root.read(f"f/{i}"), range(64)))
    assert contents == [b"%d" % i for i in range(64)]


def test_a_pickled_root_is_the_same_root(root):
    root.write("a", b"1")
    copy = pickle.loads(pickle.dumps(root))  # noqa: S301
    assert (copy.url, copy.cache, copy.read("a")) == (root.url, root.cache, b"1")


def test_a_forked_child_uses_its_parents_root(root, in_child):
    root.write("a", b"1")

    def child():
        assert root.read("a") == b"1"
        root.write("b", b"2")

    assert in_child(child) == 0
    assert root.read("b") == b"2"


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../outside", "a/../../outside"])
def test_no_path_leads_out_of_the_root(tmp_path, path):
    with pytest.raises(ValueError, match="no path relative to a root"):
        Root(str(tmp_path)).write(path, b"")


def test_a_directory_has_three_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    roots = [Root.open(url) for url in ("r", f"{tmp_path}/r", f"file://{tmp_path}/r")]
    assert {root.local for root in roots} == {tmp_path / "r"}
    assert {root.url for root in roots} == {str(tmp_path / "r")}


@pytest.mark.parametrize("url", ["", "s3://", "nonsense://bucket/x"])
def test_a_url_that_names_no_root_is_refused(url):
    with pytest.raises(InputError, match=r"names no (root|directory)"):
        Root.open(url)


def test_a_url_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(InputError, match="environment") as caught:
        Root.open("s3://someone:hidden@bucket/prefix")
    assert "hidden" not in str(caught.value)
    assert "someone" not in str(caught.value)


def test_reading_needs_an_existing_directory_and_makes_nothing(tmp_path):
    with pytest.raises(StorageError, match="no such directory"):
        Root.open(str(tmp_path / "r"), create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_root_below_a_file_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"the path is a file, not a directory\.$"):
        Root.open(str(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
def test_a_read_only_directory_can_be_read_and_not_written(in_child):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        path = Path(name)
        (path / "a").write_bytes(b"1")
        path.chmod(0o555)

        def child():
            os.setuid(65534)
            assert Root.open(name, create=False).read("a") == b"1"
            with pytest.raises(StorageError, match=r"Cannot write .*denied\.$"):
                Root.open(name)

        assert in_child(child) == 0
        assert [entry.name for entry in path.iterdir()] == ["a"]


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch):
    root = Root.open(str(tmp_path / "r"))
    root.write("a", b"old")

    def no_space(_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(directory, "flush", no_space)
    with pytest.raises(StorageError, match=r"Cannot write a in .*: the disk is full\."):
        root.write("a", b"new")
    assert root.read("a") == b"old"
    assert list(root.staging.iterdir()) == []


def test_a_write_that_fails_half_way_leaves_what_was_there(tmp_path, in_child):
    root = Root.open(str(tmp_path / "r"))
    root.write("a", b"old")

    def child():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(StorageError, match="larger than is allowed"):
            root.write("a", b"new" * 1000)

    assert in_child(child) == 0
    assert root.read("a") == b"old"
    assert list(root.staging.iterdir()) == []


def test_a_cause_that_passes_is_waited_for(tmp_path, monkeypatch):
    root = Root.open(str(tmp_path / "r"))
    flush, failures = directory.flush, [errno.EBUSY, errno.ESTALE]

    def flaky(path):
        if failures:
            raise OSError(failures.pop(), "busy")
        flush(path)

    monkeypatch.setattr(directory, "flush", flaky)
    monkeypatch.setattr("storage.patience.SHORTEST_WAIT", 0.0)
    root.write("a", b"1")
    assert root.read("a") == b"1"


@pytest.mark.parametrize(("patience", "attempts"), [("0", 1), ("0.1", 2)])
def test_a_cause_that_does_not_pass_is_waited_for_as_long_as_patience_lasts(
    tmp_path, monkeypatch, patience, attempts
):
    root = Root.open(str(tmp_path / "r"))
    made = []

    def busy(path):
        made.append(path)
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(directory, "flush", busy)
    monkeypatch.setattr("storage.patience.SHORTEST_WAIT", 0.06)
    monkeypatch.setenv("MERGEGRID_PATIENCE", patience)
    with pytest.raises(StorageError, match="busy"):
        root.write("a", b"1")
    assert len(made) == attempts


@pytest.mark.parametrize("patience", ["soon", "-1", "nan", "inf", ""])
def test_patience_that_is_no_number_of_seconds_is_refused(
    tmp_path, monkeypatch, patience
):
    root = Root.open(str(tmp_path / "r"))
    monkeypatch.setenv("MERGEGRID_PATIENCE", patience)
    with pytest.raises(InputError, match=r"MERGEGRID_PATIENCE is .* seconds"):
        root.write("a", b"1")


def test_an_outage_is_reported_once_and_so_is_its_end(tmp_path, monkeypatch, caplog):
    root = Root.open(str(tmp_path / "r"))
    flush, failures = directory.flush, [OSError(errno.ESTALE, "lost")] * 20

    def flaky(path):
        if failures:
            raise failures.pop()
        flush(path)

    monkeypatch.setattr(directory, "flush", flaky)
    monkeypatch.setattr("storage.patience.SHORTEST_WAIT", 0.0)
    for name in "ab":
        root.write(name, b"1")
    first, last = caplog.messages
    assert first == f"Waiting for {root.url}, up to 900 s: lost."
    assert last.startswith(f"{root.url} answers again")


def test_waiting_ends_when_the_process_is_to_end(tmp_path, monkeypatch, in_child):
    root = Root.open(str(tmp_path / "r"))

    def busy(_path):
        threading.Timer(0.1, end_waiting).start()
        raise OSError(errno.EBUSY, "busy")

    def child():
        directory.flush = busy
        with pytest.raises(StorageError, match="busy"):
            root.write("a", b"1")

    monkeypatch.setattr("storage.patience.SHORTEST_WAIT", 60.0)
    assert in_child(child) == 0


def test_of_several_writers_of_a_new_name_one_is_first(root):
    with ThreadPoolExecutor(8) as pool:
        for turn in range(3):
            first = pool.map(lambda i, n=f"{turn}": root.create(n, b"%d" % i), range(8))
            (winner,) = [i for i, is_first in enumerate(first) if is_first]
            assert root.read(f"{turn}") == b"%d" % winner
    assert not root.create("0", b"later")


def test_a_folder_that_others_fill_and_empty_at_the_same_time_can_be_written(tmp_path):
    root = Root.open(str(tmp_path / "r"))
    root._patience.call = lambda operation: operation()  # nothing is tried again

    def come_and_go(i):
        for turn in range(60):
            (root.create if turn % 2 else root.write)(f"deep/folder/{i}", b"1")
            root.delete(f"deep/folder/{i}")

    with ThreadPoolExecutor(8) as pool, pytest.MonkeyPatch.context() as patched:
        patched.setattr(directory, "flush", lambda _: None)
        list(pool.map(come_and_go, range(8)))
    assert root.find() == {}


def test_a_file_in_the_way_of_a_folder_is_said_and_not_waited_for(tmp_path):
    root = Root.open(str(tmp_path / "r"))
    root.write("a", b"1")
    with pytest.raises(StorageError, match=r"Cannot write a/b .*(exists|directory)"):
        root.write("a/b", b"1")
    (root.local / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="Cannot write dangling/b"):
        root.create("dangling/b", b"1")


def test_times_are_those_of_the_last_writing(root):
    root.write("a/old", b"1")
    root.write("b", b"1")
    time.sleep(1.01)  # S3 servers keep whole seconds
    root.write("a/new", b"1")
    root.write("b", b"2")
    times = root.times()
    assert times["a/new"] - times["a/old"] >= 1
    assert times["b"] - times["a/old"] >= 1
    assert root.times("a").keys() == {"a/old", "a/new"}


def test_what_killed_processes_left_is_swept_once_it_is_old(tmp_path):
    root = Root.open(str(tmp_path / "r"))
    for name in ("old", "new"):
        (root.staging / name).mkdir()
        (root.staging / name / "payload").touch()
    os.utime(root.staging / "old", (0, 0))
    Root.open(root.url)
    assert [path.name for path in root.staging.iterdir()] == ["new"]
    assert root.find() == {}
