"""Where models are found, and what is made of them: all at once, or not at all."""

import builtins
import hashlib
import json
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, snapshot_download
from safetensors.torch import save_file

from mergegrid import directories
from mergegrid.checkpoints import find_checkpoint
from mergegrid.digests import Digests
from mergegrid.directories import new_directory
from mergegrid.errors import InputError, StorageError
from mergegrid.hub import find_in_cache, is_hub_name
from mergegrid.model_config import differing_keys, with_type
from mergegrid.sizes import parse_size, show_size

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write(directory, *files, tensors=("w",)):
    directory.mkdir(parents=True, exist_ok=True)
    for file in files:
        save_file({name: torch.zeros(2) for name in tensors}, directory / file)
    return str(directory)


def names(checkpoint):
    return [file.name for file in checkpoint.files]


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (("model.safetensors",), "model.safetensors"),
        (("any.safetensors",), "any.safetensors"),
        (("model.safetensors", "other.safetensors"), "model.safetensors"),
    ],
)
def test_the_file_of_a_model_is_found(tmp_path, files, chosen):
    checkpoint = find_checkpoint(write(tmp_path, *files))
    assert names(checkpoint) == [chosen]
    assert list(checkpoint.open().infos) == ["w"]


def test_files_among_which_nothing_chooses_are_named(tmp_path):
    with pytest.raises(InputError, match=r"it holds a\.safetensors, b\.safetensors"):
        find_checkpoint(write(tmp_path, "a.safetensors", "b.safetensors"))


def test_a_single_file_has_no_directory_of_its_own(tmp_path):
    write(tmp_path, "a.safetensors")
    checkpoint = find_checkpoint("a.safetensors", tmp_path)
    assert not checkpoint.is_directory
    assert checkpoint.text == "a.safetensors"


def test_a_path_starts_where_there_is_something_first(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    write(one / "a", "model.safetensors")
    write(other / "a", "model.safetensors")
    write(other / "b", "model.safetensors")
    assert "one/a" in find_checkpoint("a", one, other).directory.path
    assert "other/b" in find_checkpoint("b", one, other).directory.path
    with pytest.raises(InputError, match=r"no model at .*one/c"):
        find_checkpoint("c", one, other)


def write_index(directory, weight_map, name="model.safetensors.index.json"):
    (directory / name).write_text(json.dumps({"weight_map": weight_map}))


def test_shards_that_are_missing_are_all_named(tmp_path):
    path = write(tmp_path, "1.safetensors")
    shards = {"w": "1.safetensors", "x": "2.safetensors", "y": "3.bin"}
    write_index(tmp_path, shards)
    with pytest.raises(InputError, match=r"lists 2\.safetensors, 3\.bin, which are"):
        find_checkpoint(path)


def test_a_tensor_that_the_index_lists_must_be_there(tmp_path):
    path = write(tmp_path, "1.safetensors")
    write_index(tmp_path, {"w": "1.safetensors", "x": "1.safetensors"})
    with pytest.raises(InputError, match="lists 'x', which is in none of its files"):
        find_checkpoint(path).open()


def test_a_tensor_in_two_shards_is_named(tmp_path):
    path = write(tmp_path, "1.safetensors", "2.safetensors")
    write_index(tmp_path, {"w": "1.safetensors", "x": "2.safetensors"})
    with pytest.raises(InputError, match="'w' is in two files"):
        find_checkpoint(path).open()


def test_of_several_indices_the_usual_one_counts(tmp_path):
    path = write(tmp_path, "1.safetensors", "2.safetensors")
    write_index(tmp_path, {"w": "1.safetensors"}, "a.safetensors.index.json")
    write_index(tmp_path, {"w": "2.safetensors"}, "b.safetensors.index.json")
    with pytest.raises(InputError, match=r"the index of one model; it holds a.*, b"):
        find_checkpoint(path)
    write_index(tmp_path, {"w": "2.safetensors"})
    assert names(find_checkpoint(path)) == ["2.safetensors"]


# Hugging Face's cache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache as `snapshot_download` leaves it: links to blobs."""
    model = tmp_path / "cache" / "models--org--name"
    write(model / "blobs", "1234")
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../blobs/1234")
    (snapshot / "config.json").write_text("{}")
    (model / "refs").mkdir()
    for ref in ("main", "tuned"):
        (model / "refs" / ref).write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert callable(snapshot_download)  # and loaded, before the network goes
    # Nothing may be asked of the network.
    monkeypatch.setattr(socket, "socket", None)
    return tmp_path / "cache"


@pytest.mark.parametrize("text", ["org/name", "org/name@tuned", f"org/name@{COMMIT}"])
@pytest.mark.usefixtures("cache")
def test_a_model_is_found_in_the_cache_by_its_name(text):
    checkpoint = find_checkpoint(text)
    assert list(checkpoint.open().infos) == ["w"]
    assert checkpoint.text == text
    assert checkpoint.revision == COMMIT
    with Digests() as digests:
        identity = digests.identity(checkpoint)
    assert identity["path"] == text
    assert identity["revision"] == COMMIT
    blob = Path(checkpoint.files[0].path).read_bytes()
    assert identity["sha256"] == {"model.safetensors": hashlib.sha256(blob).hexdigest()}


@pytest.mark.parametrize("text", ["org/other", "org/name@older", "org/a--b"])
@pytest.mark.usefixtures("cache")
def test_a_model_that_was_not_downloaded_is_named(text):
    with pytest.raises(InputError, match=f"no model at {text}, and none of this name"):
        find_checkpoint(text)


@pytest.mark.usefixtures("cache")
def test_a_path_goes_before_a_name(tmp_path, monkeypatch):
    write(tmp_path / "org" / "name", "model.safetensors", tensors=("mine",))
    monkeypatch.chdir(tmp_path)
    assert list(find_checkpoint("org/name").open().infos) == ["mine"]


def test_what_cannot_be_a_name_is_not_looked_up():
    assert is_hub_name("org/name-1.5@v1/a")
    for text in ("name", "a/b/c", "/a/b", "./a", "../a", "s3://a/b", "a b/c", "a/b@"):
        assert not is_hub_name(text), text


def test_what_to_install_is_said(monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="pip install huggingface_hub"):
        find_in_cache("org/name")


# Directories


def listing(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_directory_appears_when_it_is_complete(tmp_path):
    out = tmp_path / "deep" / "out"
    with new_directory(out) as made:
        (made / "a").write_text("1")
        assert not out.exists()
    assert (out / "a").read_text() == "1"
    assert listing(tmp_path / "deep") == ["out"]
    assert out.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("force", [True, False])
def test_what_fails_leaves_everything_as_it_was(tmp_path, error, force):
    out = tmp_path / "out"
    if force:
        out.mkdir()
        (out / "old").write_text("1")
    before = sorted(tmp_path.rglob("*"))

    def fail():
        with new_directory(out, force=force) as made:
            (made / "a").write_text("1")
            raise error

    with pytest.raises((StorageError, KeyboardInterrupt)) as caught:
        fail()
    assert sorted(tmp_path.rglob("*")) == before
    if isinstance(error, OSError):
        assert str(caught.value) == f"Cannot write to {out}: No space left."


def test_what_is_there_is_replaced_only_by_force(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with new_directory(out) as made:  # an empty one is nobody's loss
        (made / "old").write_text("1")
    with (
        pytest.raises(InputError, match=r"out exists already .* --force"),
        new_directory(out),
    ):
        pass
    with new_directory(out, force=True) as made:
        (made / "new").write_text("1")
        assert listing(out) == ["old"]
    assert listing(out) == ["new"]
    assert listing(tmp_path) == ["out"]


def test_a_rename_that_fails_brings_the_old_directory_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("1")
    rename = Path.replace

    def failing(self, target):
        if Path(target) == out and not (self / "old").exists():
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(directories.Path, "replace", failing)
    with (
        pytest.raises(StorageError, match="Input/output error"),
        new_directory(out, force=True) as made,
    ):
        (made / "new").write_text("1")
    assert listing(out) == ["old"]
    assert listing(tmp_path) == ["out"]


def test_a_file_is_never_replaced(tmp_path):
    (tmp_path / "out").write_text("1")
    with (
        pytest.raises(InputError, match="is a file"),
        new_directory(tmp_path / "out", force=True),
    ):
        pass


def test_force_takes_neither_what_is_merged_nor_where_one_is(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "expert").write_text("1")
    for keep, message in (
        ([out / "expert"], "expert in it is needed"),
        ([], "you are"),
    ):
        monkeypatch.chdir(out)
        with (
            pytest.raises(InputError, match=message),
            new_directory(out, force=True, keep=keep),
        ):
            pass


def test_a_link_to_a_directory_stays_a_link(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "out").symlink_to("target")
    with new_directory(tmp_path / "out") as made:
        (made / "a").write_text("1")
    assert (tmp_path / "out").is_symlink()
    assert listing(target) == ["a"]


# Digests, sizes and configurations


def test_digests_stop_when_nobody_waits_for_them(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "a.safetensors")
    checkpoint = find_checkpoint(str(tmp_path / "a.safetensors"))
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(1 << 36)  # a hole, to read which would take minutes
    large = checkpoint.directory.inside("large")
    start = time.monotonic()
    with Digests() as digests:
        digests.start(replace(checkpoint, files=(large,)))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (17, 17),
        ("17", 17),
        ("5GB", 5 * 10**9),
        ("1.5 MiB", 3 << 19),
        ("2kb", 2000),
        ("1 TB", 10**12),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "5 GBs", "-5GB", "0", "0.1", "5,0GB", "e"])
def test_what_is_no_size_is_named(text):
    with pytest.raises(InputError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (123456, "123 kB"),
        (999_600, "1 MB"),
        (5e9, "5 GB"),
        (2.5e15, "2.5e+03 TB"),
    ],
)
def test_sizes_are_written_short(size, text):
    assert show_size(size) == text


def test_configurations_differ_in_what_matters():
    one = {"hidden_size": 8, "torch_dtype": "float32", "transformers_version": "4"}
    other = {"hidden_size": 8, "dtype": "bfloat16", "rope_theta": 2}
    assert differing_keys(one, one) == []
    assert differing_keys(one, other) == ["rope_theta"]


def test_a_type_is_said_where_it_was_said_and_nowhere_else():
    config = {"dtype": "float32", "text_config": {"torch_dtype": "float32", "a": [1]}}
    assert with_type(config, torch.bfloat16) == {
        "dtype": "bfloat16",
        "text_config": {"torch_dtype": "bfloat16", "a": [1]},
    }
    assert with_type({"a": 1, "dtype": None}, torch.float16) == {"a": 1, "dtype": None}
