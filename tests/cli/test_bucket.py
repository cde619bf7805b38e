"""Merging from a bucket, end to end: the program, HTTP, and what the server was asked.

The server counts, not a stand-in for the client: every request is recorded there.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import boto3
import pytest
import s3fs
import torch
import yaml
from moto.server import ThreadedMotoServer
from safetensors.torch import load_file, save

from mergegrid import merge
from mergegrid.cli import main

ROOT = Path(__file__).parents[2]
BUCKET = "models"
NAMES = ("pretrained", "cars", "flowers")
FILE = "model.safetensors"
BESIDES = 80_000
"""Bytes that may be read of a model besides its tensors: its header, which is asked for
before its size is known, and samples."""


def model(seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        f"layers.{i}.weight": torch.randn(300, 400, generator=generator) for i in "0123"
    }


MODELS = {name: model(seed) for seed, name in enumerate(NAMES)}
SIZE = 4 * 4 * 300 * 400
"""Bytes of a model's tensors."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An S3 server that writes down what it is asked, with the models in it."""
    recording = tmp_path_factory.mktemp("server") / "requests"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_RECORDER_FILEPATH", str(recording))
        moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        moto.start()
        host, port = moto.get_host_and_port()
        url = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id="tester",
            aws_secret_access_key="never-shown",
        )
        with closing(client):
            client.create_bucket(Bucket=BUCKET)
            for name, parameters in MODELS.items():
                first, *others = parameters
                shards = {
                    "one.safetensors": {first: parameters[first]},
                    "two.safetensors": {key: parameters[key] for key in others},
                }
                files = {
                    f"{name}/{FILE}": save(parameters),
                    f"{name}/config.json": b'{"model_type": "test"}',
                    f"{name}/pytorch_model.bin": bytes(1_000_000),
                    f"{name}-sharded/model.safetensors.index.json": json.dumps(
                        {"weight_map": {k: f for f, ks in shards.items() for k in ks}}
                    ).encode(),
                    f"{name}-sharded/unlisted.safetensors": save(parameters),
                    **{
                        f"{name}-sharded/{file}": save(tensors)
                        for file, tensors in shards.items()
                    },
                }
                for key, content in files.items():
                    client.put_object(Bucket=BUCKET, Key=key, Body=content)
        yield url
        moto.stop()


class Requests:
    """What the server was asked while a block ran, by key: ranges, None for all."""

    def __init__(self, url):
        self.recorder = f"{url}/moto-api/recorder"
        self.ranges = {}

    def _post(self, action):
        request = urllib.request.Request(f"{self.recorder}/{action}", method="POST")
        urllib.request.urlopen(request).close()

    def __enter__(self):
        self._post("reset-recording")
        self._post("start-recording")
        return self

    def __exit__(self, *_):
        self._post("stop-recording")
        with urllib.request.urlopen(f"{self.recorder}/download-recording") as answer:
            asked = [json.loads(line) for line in answer.read().splitlines()]
        for request in asked:
            key = request["url"].partition(f"/{BUCKET}/")[2].partition("?")[0]
            if request["method"] == "GET" and key:
                asked_for = re.fullmatch(
                    r"bytes=(\d+)-(\d+)", request["headers"].get("Range", "")
                )
                found = asked_for and (int(asked_for[1]), int(asked_for[2]) + 1)
                self.ranges.setdefault(key, []).append(found)

    def asked(self, key):
        """How often each byte of a file was asked for."""
        assert None not in self.ranges[key], "a file of weights was read as a whole"
        stop = max(stop for _, stop in self.ranges[key])
        counts = torch.zeros(stop, dtype=torch.int64)
        for start, stop in self.ranges[key]:
            counts[start:stop] += 1
        return counts


@pytest.fixture
def endpoint(server, monkeypatch):
    """The server, with credentials and nothing of the machine's own settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "never-shown",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": server,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield server
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def merged(endpoint, tmp_path):
    """Merge the models of the bucket; give what the server was asked."""

    def run(method, suffix="", command=main):
        recipe = {
            "method": method,
            "pretrained": f"s3://{BUCKET}/pretrained{suffix}",
            "experts": {name: f"s3://{BUCKET}/{name}{suffix}" for name in NAMES[1:]},
        }
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        with Requests(endpoint) as requests:
            status = command(
                ["merge", str(tmp_path / "recipe.yaml"), str(tmp_path / "out")]
            )
        assert status == 0
        found = load_file(tmp_path / "out" / FILE)
        experts = {name: MODELS[name] for name in NAMES[1:]}
        expected = merge(experts, method, MODELS["pretrained"])
        torch.testing.assert_close(found, dict(expected), rtol=0, atol=0)
        return requests

    return run


def program(arguments):
    """Run the program in a process of its own; give its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "mergegrid.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "never-shown" not in done.stdout + done.stderr
    return done.returncode


def test_every_byte_of_the_tensors_is_asked_for_once_and_nothing_else(merged):
    requests = merged("task_arithmetic", command=program)
    for name in NAMES:
        counts = requests.asked(f"{name}/{FILE}")
        tensors = counts[-SIZE:]  # they come last in a file
        assert bool((tensors >= 1).all())
        assert SIZE <= int(counts.sum()) < SIZE + BESIDES
    weights = {key for key in requests.ranges if not key.endswith("config.json")}
    assert weights == {f"{name}/{FILE}" for name in NAMES}


def test_of_a_model_that_only_gives_its_types_no_tensor_is_asked_for(merged):
    requests = merged("average")
    assert int(requests.asked(f"pretrained/{FILE}").sum()) < BESIDES
    for name in NAMES[1:]:
        assert int(requests.asked(f"{name}/{FILE}").sum()) >= SIZE


def test_shards_that_the_index_does_not_list_are_not_asked_for(merged):
    requests = merged("task_arithmetic", "-sharded")
    files = {key for key in requests.ranges if key.endswith(".safetensors")}
    for name in NAMES:
        shards = [f"{name}-sharded/{part}.safetensors" for part in ("one", "two")]
        assert files >= {*shards}
        files -= {*shards}
        asked = sum(int(requests.asked(shard).sum()) for shard in shards)
        assert SIZE <= asked < SIZE + 2 * BESIDES
    assert not files


def test_experts_in_a_bucket_are_compressed_and_restored_from_the_same_model(
    endpoint, tmp_path, capsys
):
    del endpoint
    recipe = {
        "method": "tall_masks",
        "pretrained": f"s3://{BUCKET}/pretrained",
        "experts": {name: f"s3://{BUCKET}/{name}" for name in NAMES[1:]},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    small, out = str(tmp_path / "small"), str(tmp_path / "out")
    assert main(["compress", str(tmp_path / "recipe.yaml"), small]) == 0
    assert main(["restore", small, "cars", out]) == 0
    experts = {name: MODELS[name] for name in NAMES[1:]}
    expected = merge(experts, "tall_masks", MODELS["pretrained"], task="cars")
    found = load_file(tmp_path / "out" / FILE)
    torch.testing.assert_close(found, dict(expected), rtol=0, atol=0)
    # A file on a disk has no ETag to know it by, and another model has another one.
    (tmp_path / FILE).write_bytes(save(MODELS["pretrained"]))
    for given, said in (
        (tmp_path / FILE, "cannot be told from others"),
        (f"s3://{BUCKET}/flowers", "is not the pretrained model"),
    ):
        capsys.readouterr()
        asked = ["restore", small, "cars", str(tmp_path / "other")]
        assert main([*asked, "--pretrained", str(given)]) == 2
        assert said in capsys.readouterr().err
