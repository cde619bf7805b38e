import logging
import pickle
import socket
import time
from contextlib import closing

import boto3
import pytest
import s3fs

from mergegrid.errors import StorageError
from storage import bucket as bucket_module
from storage.artifacts import ArtifactStore
from storage.ledger import Ledger
from storage.root import Root

SECONDS = 10.0
"""How long anybody should wait for a word about a server that is not there."""

PAGE = 40
"""How many names the tests' server lists at a time."""


def open_fails(url, match, *, create=True):
    start = time.monotonic()
    with pytest.raises(StorageError, match=match) as caught:
        Root.open(url, create=create)
    assert time.monotonic() - start < SECONDS
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_that_says_nothing_is_one_line_within_seconds(s3_environment):
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        s3_environment.setenv("AWS_ENDPOINT_URL", url)
        open_fails("s3://bucket/prefix", "does not answer")
        s3_environment.setattr(bucket_module, "_PROBE_SECONDS", 1.0)
        open_fails("s3://bucket/prefix", "does not answer", create=False)


def test_a_server_that_is_not_there_is_one_line_within_seconds(s3_environment):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
    s3_environment.setenv("AWS_ENDPOINT_URL", f"http://{place}")
    open_fails("s3://bucket/prefix", f"{place} does not answer")
    s3_environment.setenv("AWS_ENDPOINT_URL", f"http://someone:hidden@{place}")
    assert "hidden" not in open_fails("s3://bucket/prefix", "the connection")


@pytest.mark.usefixtures("bucket_url")
def test_a_bucket_that_is_not_there_is_named():
    for create in (True, False):
        open_fails(
            "s3://no-such/prefix", "s3://no-such/prefix: .*no such", create=create
        )


def test_a_malformed_endpoint_is_one_line(s3_environment):
    s3_environment.setenv("AWS_ENDPOINT_URL", "no scheme")
    open_fails("s3://bucket/prefix", "the endpoint's URL is malformed")


def test_missing_credentials_are_one_line_that_says_where_they_belong(
    bucket_url, monkeypatch
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    open_fails(bucket_url, "no credentials; set AWS_ACCESS_KEY_ID")


def test_a_refusal_is_one_line(bucket_url, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError(13, "Access Denied")

    monkeypatch.setattr(s3fs.S3FileSystem, "pipe_file", refuse)
    open_fails(bucket_url, r"permission denied \(Access Denied\)\.$")


@pytest.mark.usefixtures("bucket_url")
def test_a_bucket_itself_is_a_root(bucket):
    root = Root.open(f"s3://{bucket}/")
    root.write("top/a/b", b"12")
    assert root.find("top") == {"top/a/b": 2}
    assert root.find()["top/a/b"] == 2
    assert root.find("to") == {}


def test_opening_leaves_nothing_behind(bucket_url):
    assert Root.open(bucket_url).find() == {}


def test_secrets_reach_no_file_log_error_or_pickle(bucket_url, caplog):
    secret = "never-stored-never-logged"
    with caplog.at_level(logging.DEBUG, logger="mergegrid"):
        root = Root.open(bucket_url)
        store, ledger = ArtifactStore(root), Ledger(root)
        with store.write("a-v1-1", "a", 1, {}, {}) as draft:
            (draft / "a").write_text("1")
        store.path("a-v1-1")
        ledger.append("a-v1-1", [{"table": "costs"}])
        root.write("artifacts/a-v1-1/manifest.json", b"")
        list(ArtifactStore(root).verify())
        line = open_fails("s3://no-such/prefix", "no such")
    cached = b"".join(p.read_bytes() for p in root.cache.rglob("*") if p.is_file())
    stored = b"".join(map(root.read, root.find()))
    state = b"".join(map(pickle.dumps, (root, store, ledger)))
    assert "damaged" in caplog.text
    for text in (cached, stored, state, line.encode(), caplog.text.encode()):
        assert secret.encode() not in text
        assert b"tester" not in text


def test_what_another_process_writes_is_listed_at_once(bucket_url, bucket, s3_server):
    root = Root.open(bucket_url)
    assert root.find("a") == {}
    prefix = bucket_url.removeprefix(f"s3://{bucket}/")
    other = boto3.client("s3", region_name="us-east-1", endpoint_url=s3_server)
    other.put_object(Bucket=bucket, Key=f"{prefix}/a/b", Body=b"12")
    assert root.find("a") == {"a/b": 2}
    other.put_object(Bucket=bucket, Key=f"{prefix}/a/b", Body=b"123")
    assert root.find("a") == {"a/b": 3}
    assert root.read("a/b") == b"123"


def test_a_listing_of_many_pages_is_complete_and_ends_at_the_folder(bucket_url):
    root = Root.open(bucket_url)
    files = s3fs.S3FileSystem()
    base = bucket_url.removeprefix("s3://")
    files.pipe({f"{base}/many/{i}": b"" for i in range(2 * PAGE + 1)})
    files.pipe({f"{base}/many-more/0": b"", f"{base}/marker/": b""})
    assert set(root.find("many")) == {f"many/{i}" for i in range(2 * PAGE + 1)}


def test_an_upload_in_parts_that_fails_leaves_no_object(
    bucket_url, tmp_path, monkeypatch
):
    root = Root.open(bucket_url)
    local = tmp_path / "large"
    local.write_bytes(bytes(11 << 20))
    call = s3fs.S3FileSystem._call_s3

    async def failing(self, method, *arguments, **options):
        if options.get("PartNumber") == 2:
            raise PermissionError(13, "Access Denied")
        return await call(self, method, *arguments, **options)

    monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda *_, **__: 5 << 20)
    with monkeypatch.context() as patched:
        patched.setattr(s3fs.S3FileSystem, "_call_s3", failing)
        with pytest.raises(StorageError, match="Access Denied"):
            root.put_file(local, "large")
    assert root.find() == {}
    root.put_file(local, "large")
    assert root.find() == {"large": 11 << 20}


def test_a_server_that_is_busy_is_asked_again(bucket_url, monkeypatch):
    root = Root.open(bucket_url)
    root.write("a", b"1")
    cat_file, failures = s3fs.S3FileSystem.cat_file, [TimeoutError(), OSError(16, "x")]

    def flaky(self, *arguments, **options):
        if failures:
            raise failures.pop()
        return cat_file(self, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "cat_file", flaky)
    monkeypatch.setattr("storage.root._WAITS", (0, 0))
    assert root.read("a") == b"1"


def test_buckets_of_one_name_on_two_servers_do_not_share_copies(s3_environment):
    s3_environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    one = Root("s3://bucket/prefix").cache
    s3_environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:2")
    assert Root("s3://bucket/prefix").cache != one
    assert Root("s3://bucket/prefix").cache == Root("s3://bucket/prefix/").cache
