import json
import os
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mergegrid.canonical import canonical_json, digest
from mergegrid.errors import DamagedArtifactError, StorageError
from storage import directory
from storage.artifacts import ArtifactStore, load_tensors, save_tensors
from storage.root import Root

KEY = "train-v1-0123456789abcdef"


@pytest.fixture
def store(root):
    return ArtifactStore(root)


def fill(store, act):
    with store.write(KEY, "train", 1, {}, {}) as draft:
        act(draft)


def write(store, key=KEY, value=1.0):
    with store.write(key, "train", 1, {"seed": 0}, {"device": "cpu"}) as draft:
        save_tensors(draft / "model.safetensors", {"w": torch.full((2, 3), value)})
        (draft / "more").mkdir()
        (draft / "more/notes.json").write_text("{}")
        draft.cost = {"seconds": 1.5}
    return draft.manifest


def values(store, key=KEY):
    return load_tensors(store.path(key) / "model.safetensors")["w"].unique().tolist()


def stored(store, name, key=KEY):
    (path,) = (p for p in store.root.find(f"artifacts/{key}") if p.endswith(name))
    return path


def fresh(store):
    return ArtifactStore(store.root)  # knows nothing that the other one has read


def test_what_was_written_is_read_and_described(store):
    manifest = write(store)
    other = fresh(store)
    assert other.keys() == {KEY}
    assert other.missing({KEY, "merge-v1-none"}) == {"merge-v1-none"}
    assert values(other) == [1.0]
    assert (other.path(KEY) / "more/notes.json").read_text() == "{}"
    assert other.manifest(KEY) == manifest
    model = manifest.payloads["model.safetensors"]
    assert model.tensors == {"w": ((2, 3), "F32")}
    assert (manifest.inputs, manifest.cost) == ({"seed": 0}, {"seconds": 1.5})
    assert manifest.size == sum(
        size
        for name, size in store.root.find("artifacts").items()
        if "manifest" not in name
    )


def test_an_exception_in_the_block_stores_nothing(store):
    def act(draft):
        (draft / "model.bin").write_bytes(b"half")
        raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fill(store, act)
    assert store.root.find() == {}
    assert list(store.root.staging.iterdir()) == []


def test_without_its_manifest_there_is_no_artifact(store, monkeypatch):
    def lost(_path, _data):
        raise StorageError("The connection was lost.")

    with monkeypatch.context() as patched:
        patched.setattr(store.root, "create", lost)
        with pytest.raises(StorageError, match="lost"):
            write(store)
    assert store.root.find("artifacts")  # the payloads were stored
    other = fresh(store)
    assert other.keys() == set()
    assert other.missing({KEY}) == {KEY}
    with pytest.raises(StorageError, match=f"There is no artifact {KEY}"):
        other.path(KEY)
    write(other)
    assert values(other) == [1.0]


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_complete_artifact_stays_and_an_incomplete_one_is_replaced(
    store, is_complete
):
    first = write(store, value=1.0)
    if not is_complete:
        store.root.delete(stored(store, "notes.json"))
    other = fresh(store)
    assert other.missing({KEY}) == (set() if is_complete else {KEY})
    second = write(other, value=2.0)
    assert (first == second) is is_complete
    assert values(fresh(store)) == ([1.0] if is_complete else [2.0])


def test_writers_of_one_key_all_succeed_and_one_of_them_wins(store):
    stores = [fresh(store) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, stores, [KEY] * 8, range(8)))
    (winner,) = values(fresh(store))
    assert winner in range(8)
    assert list(fresh(store).verify()) == [(KEY, None)]


def spoil(store, name, change):
    path = stored(store, name)
    data = store.root.read(path)
    store.root.write(path, change(data))


def flip(data):
    return data[:-1] + bytes([data[-1] ^ 1])


def change_cost(data):
    return data.replace(b'"seconds":1.5', b'"seconds":0.5')


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("model.safetensors", flip, "model.safetensors has another SHA-256"),
        ("model.safetensors", lambda data: data[:-1], "model.safetensors has .* bytes"),
        ("model.safetensors", lambda _: b"", "model.safetensors has 0 bytes"),
        ("model.safetensors", None, "model.safetensors is missing"),
        ("manifest.json", lambda data: data[:-20], "its manifest cannot be read"),
        ("manifest.json", lambda _: b"", "its manifest cannot be read"),
        ("manifest.json", lambda _: b"\xff[]", "its manifest cannot be read"),
        ("manifest.json", change_cost, "its manifest was altered"),
    ],
)
@pytest.mark.parametrize("verify", [False, True])
def test_damage_is_found_set_aside_and_mended_by_writing_again(
    tmp_path, name, change, reason, verify
):
    store = ArtifactStore(Root.open(str(tmp_path)))
    write(store)
    if change:
        spoil(store, name, change)
    else:
        store.root.delete(stored(store, name))
    other = fresh(store)
    if verify:
        ((key, found),) = other.verify()
        assert key == KEY
    else:
        with pytest.raises(DamagedArtifactError, match=reason) as caught:
            other.path(KEY)
        found = caught.value.reason
        assert "\n" not in str(caught.value)
    assert re.match(reason, found)
    assert other.keys() == set()
    assert other.missing({KEY}) == {KEY}
    assert f"damaged/{KEY}/manifest.json" in store.root.find("damaged")
    write(other, value=3.0)
    assert values(fresh(store)) == [3.0]
    assert list(other.verify()) == [(KEY, None)]


def test_damage_in_either_place_is_set_aside(store):
    write(store)
    spoil(store, "model.safetensors", flip)
    with pytest.raises(DamagedArtifactError, match="SHA-256"):
        fresh(store).path(KEY)
    assert store.keys() == set()
    assert len(store.root.find("damaged")) == 3
    write(store, value=3.0)
    assert values(store) == [3.0]


def test_a_manifest_under_another_key_is_damage(store):
    write(store)
    data = store.root.read(f"artifacts/{KEY}/manifest.json")
    store.root.write("artifacts/merge-v1-1/manifest.json", data)
    with pytest.raises(DamagedArtifactError, match=f"is that of {KEY}"):
        store.manifest("merge-v1-1")


def test_damage_that_happens_between_two_reads_is_found(store):
    write(store)
    path = store.path(KEY) / "model.safetensors"
    spoiled = flip(path.read_bytes())
    path.unlink()
    path.write_bytes(spoiled)
    if store.root.local:
        with pytest.raises(DamagedArtifactError, match="SHA-256"):
            store.path(KEY)
    else:  # only the copy was damaged
        assert values(store) == [1.0]


def test_verify_goes_on_after_damage_and_names_what_is_not_there(store):
    for key in ("a-v1-1", "b-v1-1", "c-v1-1"):
        write(store, key)
    store.root.delete(stored(store, "notes.json", "b-v1-1"))
    found = dict(store.verify(["a-v1-1", "b-v1-1", "c-v1-1", "d-v1-1"]))
    assert found.pop("d-v1-1").startswith("There is no artifact")
    notes = "more/notes.json is missing"
    assert found == {"a-v1-1": None, "b-v1-1": notes, "c-v1-1": None}


@pytest.mark.parametrize("begun", [False, True])
def test_verify_says_nothing_of_what_is_removed_meanwhile(store, monkeypatch, begun):
    write(store, "a-v1-1")
    write(store, "b-v1-1")

    def remove():
        for path in store.root.find("artifacts/b-v1-1"):
            store.root.delete(path)

    other = fresh(store)
    with monkeypatch.context() as patched:
        if begun:
            manifest = other.manifest

            def read_and_remove(key):
                found = manifest(key)
                if key == "b-v1-1":
                    remove()
                return found

            patched.setattr(other, "manifest", read_and_remove)
            assert list(other.verify()) == [("a-v1-1", None)]
        else:
            checked = other.verify()
            assert next(checked) == ("a-v1-1", None)
            remove()
            assert list(checked) == []
    assert store.root.find("damaged") == {}


def test_a_store_and_its_errors_can_be_pickled(store):
    write(store)
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert values(copy) == [1.0]
    error = DamagedArtifactError(KEY, "is missing")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301


@pytest.mark.parametrize("key", ["", "a/b", "..", ".hidden", "a b"])
def test_a_key_that_cannot_name_a_folder_is_refused(tmp_path, key):
    store = ArtifactStore(Root.open(str(tmp_path)))
    with pytest.raises(ValueError, match="cannot name an artifact"):
        write(store, key)
    with pytest.raises(ValueError, match="cannot name an artifact"):
        store.missing({key})


def test_an_artifact_without_a_file_is_refused(tmp_path):
    store = ArtifactStore(Root.open(str(tmp_path)))
    with pytest.raises(ValueError, match="Nothing was written"):
        fill(store, lambda _: None)
    assert store.root.find() == {}


def test_what_has_no_place_in_json_stores_no_artifact(tmp_path):
    def act(draft):
        (draft / "a").write_text("1")
        draft.cost = {"seconds": float("nan")}

    store = ArtifactStore(Root.open(str(tmp_path)))
    with pytest.raises(ValueError, match="nan"):
        fill(store, act)
    assert store.keys() == set()


def test_a_disk_that_is_full_while_the_block_writes_is_one_line(tmp_path):
    def act(_draft):
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"1")

    store = ArtifactStore(Root.open(str(tmp_path)))
    with pytest.raises(StorageError, match=r"^Cannot write .*: the disk is full\.$"):
        fill(store, act)
    assert store.root.find() == {}


def test_a_kill_at_any_moment_leaves_an_artifact_or_none(tmp_path, in_child):
    flush = directory.flush
    outcomes = set[tuple[int, bool]]()
    for moment in range(20):
        store = ArtifactStore(Root.open(str(tmp_path / str(moment))))
        calls = iter(range(20))

        def killing(path, calls=calls, moment=moment):
            if next(calls) == moment:
                os._exit(9)
            flush(path)

        def child(store=store, killing=killing):
            directory.flush = killing
            write(store)

        status = in_child(child)
        has_it = bool(store.keys())
        outcomes.add((status, has_it))
        assert has_it is not bool(store.missing({KEY}))
        assert [fault for _, fault in store.verify()] == [None] * has_it
        write(store, value=2.0)
        assert values(store) == ([1.0] if has_it else [2.0])
        if status == 0:
            break
    assert outcomes == {(9, False), (9, True), (0, True)}


def test_one_damaged_copy_is_fetched_again_under_a_new_file(bucket_url):
    store = ArtifactStore(Root.open(bucket_url))
    write(store)
    path = store.path(KEY) / "model.safetensors"
    mapped = load_tensors(path)["w"]
    inode = path.stat().st_ino
    other = path.with_name("other")
    other.write_bytes(flip(path.read_bytes()))  # full size, wrong content
    other.replace(path)
    assert values(fresh(store)) == [1.0]
    assert path.stat().st_ino != inode  # a mapped file must not change in place
    assert mapped.unique().tolist() == [1.0]


def test_a_copy_is_not_taken_for_an_artifact_that_was_replaced(bucket_url):
    store = ArtifactStore(Root.open(bucket_url))
    write(store, value=1.0)
    assert values(store) == [1.0]
    for path in store.root.find("artifacts"):
        store.root.delete(path)
    write(fresh(store), value=2.0)
    assert values(fresh(store)) == [2.0]


def test_verify_reads_the_bucket_and_not_the_copies(bucket_url):
    store = ArtifactStore(Root.open(bucket_url))
    write(store)
    store.path(KEY)
    spoil(store, "model.safetensors", flip)
    ((_, fault),) = store.verify()
    assert "SHA-256" in fault


def test_a_manifest_is_json_that_anyone_can_read(tmp_path):
    store = ArtifactStore(Root.open(str(tmp_path)))
    write(store)
    fields = json.loads(store.root.read(f"artifacts/{KEY}/manifest.json"))
    assert fields["key"] == KEY
    assert fields["payloads"]["more/notes.json"]["size"] == 2


def test_an_artifact_of_another_version_is_refused_and_left_alone(store):
    write(store)
    path = f"artifacts/{KEY}/manifest.json"
    fields = json.loads(store.root.read(path)) | {"licence": "unknown to us"}
    del fields["digest"]
    content = canonical_json({**fields, "digest": digest(fields)}).encode()
    store.root.write(path, content)
    other = fresh(store)
    for ask in (other.path, other.manifest, lambda key: other.missing({key})):
        with pytest.raises(StorageError, match="by another version") as caught:
            ask(KEY)
        assert not isinstance(caught.value, DamagedArtifactError)
    ((_, fault),) = other.verify()
    assert "another version" in fault
    assert store.root.read(path) == content


def test_of_two_writers_at_once_the_first_stays_where_the_store_can_tell(
    store, monkeypatch
):
    other = ArtifactStore(Root(store.root.url))
    put_file = other.root.put_file

    def first(local, path):
        write(store, value=1.0)  # somebody is faster
        put_file(local, path)

    monkeypatch.setattr(other.root, "put_file", first)
    manifest = write(other, value=2.0)
    assert values(fresh(store)) == [1.0]
    assert manifest == store.manifest(KEY)  # and what is recorded is what is there
