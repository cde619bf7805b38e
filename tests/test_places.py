"""Files and directories, on a disk and in a bucket, are reached alike."""

import json
import os
import sys
import threading
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import boto3
import fsspec
import pytest
import s3fs
import torch
import yaml
from fsspec.registry import _registry
from moto.server import ThreadedMotoServer
from safetensors.torch import load_file, save, save_file

import mergegrid
from mergegrid.buffers import KEPT, Buffers
from mergegrid.checkpoints import find_checkpoint
from mergegrid.cli import main
from mergegrid.errors import InputError, StorageError
from mergegrid.inputs import open_inputs
from mergegrid.merge_file import read_merge_file
from mergegrid.merging import merge_stored
from mergegrid.places import Place
from mergegrid.preflight import preflight
from mergegrid.ranges import Ranges

BUCKET = "models"


@pytest.fixture(scope="module")
def server():
    """An S3 server over HTTP, that closes its sockets."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="tester",
        aws_secret_access_key="secret",
    )
    with closing(client):
        client.create_bucket(Bucket=BUCKET)
    yield url
    moto.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """A prefix of a bucket, and nothing of the machine's own settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    s3fs.S3FileSystem.clear_instance_cache()
    yield f"s3://{BUCKET}/{uuid4().hex}"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["disk", "bucket"])
def root(request, tmp_path):
    """Where files are, as text; put them there with `put`."""
    if request.param == "disk":
        return str(tmp_path / "root")
    return request.getfixturevalue("bucket")


def put(root, files):
    for name, content in files.items():
        with fsspec.open(f"{root}/{name}", "wb", auto_mkdir=True) as stream:
            stream.write(content)


def test_files_and_directories_are_told_apart(root):
    put(root, {"model/config.json": b"{}", "model/deep/a.txt": b"12", "other": b""})
    place = Place.of(root)
    assert place.is_directory()
    assert not place.is_file()
    assert place.inside("other").is_file()
    assert not place.inside("other").is_directory()
    assert not place.inside("nothing").is_file()
    assert not place.inside("nothing").is_directory()
    model = Place.of(f"{root}/model/")
    assert [file.name for file in model.listed()] == ["config.json"]
    assert model.name == "model"
    assert model.inside("config.json").parent().listed() == model.listed()


def test_a_file_is_read_as_a_whole_or_in_ranges(root):
    put(root, {"file": bytes(range(100))})
    file = Place.of(root).inside("file")
    assert file.size() == 100
    assert file.bytes() == bytes(range(100))
    assert file.bytes(10, 20) == bytes(range(10, 20))
    assert file.bytes(90, 200) == bytes(range(90, 100))
    assert file.text == f"{root}/file"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_ranges_are_read_into_tensors(root, dtype):
    tensor = torch.arange(50).to(dtype)
    raw = tensor.view(torch.uint8).numpy().tobytes()
    put(root, {"file": b"12345678" + raw})
    ranges = Ranges(Place.of(root).inside("file"))
    assert torch.equal(ranges.read(8, 50, dtype), tensor)
    start = 8 + 7 * dtype.itemsize
    assert torch.equal(ranges.read(start, 5, dtype), tensor[7:12])
    assert ranges.read(8, 0, dtype).shape == (0,)
    with pytest.raises(StorageError, match="file is cut off"):
        ranges.read(8, 51, dtype)


def test_several_threads_read_one_file(tmp_path):
    tensor = torch.arange(1 << 20, dtype=torch.float32)
    file = tmp_path / "file"
    file.write_bytes(tensor.numpy().tobytes())
    ranges = Ranges(Place.of(str(file)))
    step, wrong = 1 << 16, []

    def read(start):
        found = ranges.read(4 * start, step, torch.float32)
        if not torch.equal(found, tensor[start : start + step]):
            wrong.append(start)

    threads = [
        threading.Thread(target=read, args=(start,))
        for start in range(0, 1 << 20, step)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_tag_tells_versions_in_a_bucket_apart(bucket):
    put(bucket, {"file": b"1"})
    file = Place.of(bucket).inside("file")
    before = file.tag()
    assert before
    put(bucket, {"file": b"2"})
    assert file.tag() not in {"", before}


def test_relative_paths_start_where_they_are_told_to(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("1")
    assert Place.of("a", tmp_path).is_file()
    monkeypatch.chdir(tmp_path)
    assert Place.of("a").is_file()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Place.of("~/a", Path("/")).is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch://bucket/a", "nosuch://bucket/a is no path and no URL"),
        ("~no-such-user/a", "There is no ~no-such-user/a"),
    ],
)
def test_places_that_mean_nothing_are_named(text, message):
    with pytest.raises(InputError, match=message):
        Place.of(text)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(InputError, match=r"pip install 'mergegrid\[s3\]'"):
        Place.of("s3://bucket/a")


def test_what_the_disk_says_is_one_line(tmp_path):
    with pytest.raises(StorageError, match=r"Cannot read .*nothing: No such file"):
        Place.of(str(tmp_path / "nothing")).bytes()
    with pytest.raises(StorageError, match=r"Cannot read .*nothing: No such file"):
        Ranges(Place.of(str(tmp_path / "nothing")))


@pytest.mark.usefixtures("bucket")
def test_what_a_bucket_says_is_one_line(bucket, monkeypatch):
    with pytest.raises(StorageError, match=f"Cannot read {bucket}/nothing: "):
        Place.of(f"{bucket}/nothing").bytes()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match="credentials") as caught:
        Place.of(bucket).is_directory()
    assert "\n" not in str(caught.value)


def test_memory_is_used_again_and_not_kept_for_ever():
    store = Buffers()
    first = store.tensor(2 << 20)
    address = first.data_ptr()
    view = first[100:]
    del first
    other = store.tensor(2 << 20)
    assert other.data_ptr() != address  # a view is still in use
    assert not store._waiting
    del view
    assert len(store._waiting) == 1
    assert store.tensor(2 << 20).data_ptr() == address
    many = [store.tensor(8 << 20) for _ in range(20)]
    del many
    assert sum(map(len, store._waiting)) <= KEPT
    assert store.tensor(5).shape == (5,)


# Merging from a bucket


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


NAMES = ("pretrained", "cars", "flowers")
MODELS = {
    name: {f"layers.{i}.weight": normal(300, 400, seed=9 * j + i) for i in range(4)}
    for j, name in enumerate(NAMES)
}
SIZE = 4 * 4 * 300 * 400


@pytest.fixture
def merge_file(bucket, tmp_path):
    """A recipe for models in a bucket; the experts come with what is not needed."""
    for name, parameters in MODELS.items():
        put(
            f"{bucket}/{name}",
            {
                "model.safetensors": save(parameters),
                "pytorch_model.bin": bytes(1_000_000),
                "config.json": b'{"model_type": "test"}',
            },
        )
    path = tmp_path / "recipe.yaml"
    recipe = {
        "method": "task_arithmetic",
        "pretrained": f"{bucket}/pretrained",
        "experts": {name: f"{bucket}/{name}" for name in NAMES[1:]},
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture
def requested(monkeypatch):
    """The bytes that are asked for."""
    asked = []
    cat_file = s3fs.S3FileSystem.cat_file

    def counted(self, path, **options):
        found = cat_file(self, path, **options)
        asked.append((path, len(found)))
        return found

    monkeypatch.setattr(s3fs.S3FileSystem, "cat_file", counted)
    return asked


def test_models_in_a_bucket_are_merged_by_ranges(
    merge_file, tmp_path, requested, capsys
):
    out = tmp_path / "out"
    assert main(["merge", str(merge_file), str(out)]) == 0, capsys.readouterr().err
    experts = {name: MODELS[name] for name in NAMES[1:]}
    expected = mergegrid.merge(experts, "task_arithmetic", MODELS["pretrained"])
    torch.testing.assert_close(
        load_file(out / "model.safetensors"), expected, rtol=0, atol=0
    )
    assert (out / "config.json").read_text() == '{"model_type": "test"}'
    assert not any(path.endswith(".bin") for path, _ in requested)
    total = sum(count for _, count in requested)
    # Each model's tensors once; besides, headers and a few entries.
    assert 3 * SIZE <= total < 3 * SIZE + 500_000
    report = json.loads((out / "merge.json").read_text())
    tag = report["experts"]["cars"]["etag"]["model.safetensors"]
    assert tag["size"] > SIZE
    assert tag["etag"]
    assert "ETag" in (out / "README.md").read_text()


def test_a_pre_flight_reads_headers_alone(merge_file, requested):
    inputs = open_inputs(read_merge_file(merge_file))
    found = preflight(inputs)
    assert found.error is None
    assert sum(count for _, count in requested) < 3 * (1 << 16) + 1000
    assert found.costs.bytes_to_read == 3 * SIZE
    assert found.costs.bytes_to_write == SIZE


@pytest.mark.parametrize("method", ["average", "ties", "mlerp", "emr", "tsv_m"])
def test_a_pre_flight_foretells_what_is_read(merge_file, tmp_path, requested, method):
    recipe = yaml.safe_load(merge_file.read_text())
    merge_file.write_text(yaml.safe_dump({**recipe, "method": method}))
    inputs = open_inputs(read_merge_file(merge_file))
    expected = preflight(inputs).costs.bytes_to_read
    requested.clear()
    merge_stored(inputs, tmp_path / "out")
    total = sum(count for _, count in requested)
    # A sample is read to find rounding and tied tensors.
    assert expected <= total < expected + 50_000


def test_shards_in_a_bucket_are_found_by_their_index(bucket):
    weight_map = {name: f"{name}.safetensors" for name in MODELS["cars"]}
    files = {
        file: save({name: MODELS["cars"][name]}) for name, file in weight_map.items()
    }
    put(bucket, files)
    with pytest.raises(InputError, match=r"should hold model\.safetensors"):
        find_checkpoint(bucket)
    index = json.dumps({"weight_map": weight_map}).encode()
    put(bucket, {"model.safetensors.index.json": index})
    source = find_checkpoint(bucket).open()
    for name, tensor in MODELS["cars"].items():
        assert torch.equal(source.read(name, 0, tensor.numel()), tensor.reshape(-1))


@pytest.mark.parametrize("part", ["cars", "cars/model.safetensors"])
def test_a_bucket_and_a_disk_may_be_mixed(merge_file, bucket, tmp_path, part, capsys):
    save_file(MODELS["flowers"], tmp_path / "flowers.safetensors")
    recipe = {
        "method": "average",
        "experts": {"cars": f"{bucket}/{part}", "flowers": "flowers.safetensors"},
    }
    merge_file.write_text(yaml.safe_dump(recipe))
    out = tmp_path / "out"
    assert main(["merge", str(merge_file), str(out)]) == 0, capsys.readouterr().err
    experts = {name: MODELS[name] for name in NAMES[1:]}
    expected = mergegrid.merge(experts, "average")
    torch.testing.assert_close(
        load_file(out / "model.safetensors"), expected, rtol=0, atol=0
    )
    report = json.loads((out / "merge.json").read_text())["experts"]
    assert "etag" in report["cars"]
    assert "sha256" in report["flowers"]


def test_a_merge_is_not_written_to_a_bucket(merge_file, bucket, capsys):
    assert main(["merge", str(merge_file), f"{bucket}/out"]) == 2
    assert "is no directory on a disk" in capsys.readouterr().err
    assert not Path("s3:").exists()


def test_a_bucket_that_loses_a_model_meanwhile_leaves_nothing(
    merge_file, tmp_path, monkeypatch, capsys
):
    cat_file, calls = s3fs.S3FileSystem.cat_file, []

    def failing(self, path, **options):
        calls.append(path)
        if len(calls) > 20:
            raise FileNotFoundError(2, "The specified key does not exist.")
        return cat_file(self, path, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "cat_file", failing)
    before = sorted(tmp_path.iterdir())
    assert main(["merge", str(merge_file), str(tmp_path / "out")]) == 2
    assert "The specified key does not exist." in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
