import logging
import pickle
import socket
import time
from contextlib import closing

import boto3
import pytest
import s3fs
from botocore.exceptions import ClientError, IncompleteReadError
from s3fs.errors import translate_boto_error

from mergegrid.errors import InputError, StorageError
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


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("AccessDenied", r"the credentials have no permission for that\.$"),
        ("403", r"the credentials have no permission for that\.$"),
        ("InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "check AWS_SECRET_ACCESS_KEY"),
        ("ExpiredToken", "renew AWS_SESSION_TOKEN"),
        ("RequestTimeTooSkewed", "the clock of this machine is wrong"),
        ("PermanentRedirect", "set AWS_DEFAULT_REGION"),
        ("NoSuchBucket", "there is no such bucket"),
        ("SomethingNew", "its own words"),
    ],
)
def test_a_refusal_is_one_line_that_names_what_is_missing(
    bucket_url, monkeypatch, code, match
):
    async def refuse(*_arguments, **_options):
        answer = {"Error": {"Code": code, "Message": "its own words\nand more"}}
        raise translate_boto_error(ClientError(answer, "PutObject"))

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", refuse)
    open_fails(bucket_url, match)


def test_a_profile_that_is_not_there_is_named(bucket_url, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "elsewhere")
    open_fails(bucket_url, "no profile 'elsewhere'; check AWS_PROFILE")


@pytest.mark.parametrize("more", ["?key=hidden", "#hidden"])
def test_a_url_with_settings_is_refused_without_repeating_them(more):
    with pytest.raises(InputError, match="in the environment") as caught:
        Root.open(f"s3://bucket/prefix{more}")
    assert "hidden" not in str(caught.value)


def test_a_server_without_conditional_writes_just_writes(bucket_url, monkeypatch):
    root = Root.open(bucket_url)
    call = s3fs.S3FileSystem._call_s3

    async def old(self, method, *arguments, **options):
        if "IfNoneMatch" in options:
            answer = {"Error": {"Code": "NotImplemented", "Message": "what header?"}}
            raise translate_boto_error(ClientError(answer, "PutObject"))
        return await call(self, method, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", old)
    assert root.create("a", b"1")
    assert root.create("a", b"2")
    assert root.read("a") == b"2"


def test_a_connection_lost_in_the_middle_of_an_answer_is_tried_again(
    bucket_url, monkeypatch
):
    root = Root.open(bucket_url)
    root.write("a", b"1")
    cat_file = s3fs.S3FileSystem.cat_file
    failures = [IncompleteReadError(actual_bytes=0, expected_bytes=1)]

    def flaky(self, *arguments, **options):
        if failures:
            raise failures.pop()
        return cat_file(self, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "cat_file", flaky)
    monkeypatch.setattr("storage.patience.SHORTEST_WAIT", 0.0)
    assert root.read("a") == b"1"


def test_a_read_is_one_request(bucket_url, monkeypatch):
    root = Root.open(bucket_url)
    root.write("a", b"1")
    call, methods = s3fs.S3FileSystem._call_s3, []

    async def counting(self, method, *arguments, **options):
        methods.append(method)
        return await call(self, method, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counting)
    assert root.read("a") == b"1"
    assert methods == ["get_object"]


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


LARGE = 11 << 20


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that is sent in parts, no two of which are alike."""
    monkeypatch.setattr(bucket_module, "_PART_BYTES", 5 << 20)  # S3's smallest
    path = tmp_path / "large"
    path.write_bytes(b"".join(i.to_bytes(8) for i in range(LARGE // 8)))
    return path


def failing_at_part(number, error):
    call = s3fs.S3FileSystem._call_s3

    async def failing(self, method, *arguments, **options):
        if options.get("PartNumber") == number:
            raise error
        return await call(self, method, *arguments, **options)

    return failing


def test_a_large_file_is_sent_and_fetched_in_parts(bucket_url, large, tmp_path):
    root = Root.open(bucket_url)
    root.put_file(large, "large")
    root.get_file("large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    etag = s3fs.S3FileSystem().info(f"{bucket_url}/large")["ETag"]
    assert etag.strip('"').endswith("-3")  # S3's sign for three parts


def test_an_upload_in_parts_that_fails_leaves_no_object_and_no_parts(
    bucket_url, large, monkeypatch
):
    root = Root.open(bucket_url)
    refused = failing_at_part(2, PermissionError(13, "Access Denied"))
    with monkeypatch.context() as patched:
        patched.setattr(s3fs.S3FileSystem, "_call_s3", refused)
        with pytest.raises(StorageError, match="no permission"):
            root.put_file(large, "large")
    assert root.find() == {}
    assert root.uploads() == {}
    root.put_file(large, "large")
    assert root.find() == {"large": LARGE}


def test_an_upload_that_was_cut_off_is_listed_and_can_be_given_up(
    bucket_url, large, monkeypatch
):
    root = Root.open(bucket_url)

    async def unreachable(*_arguments):
        raise PermissionError(13, "Access Denied")

    with monkeypatch.context() as patched:
        refused = failing_at_part(2, PermissionError(13, "Access Denied"))
        patched.setattr(s3fs.S3FileSystem, "_call_s3", refused)
        patched.setattr(s3fs.S3FileSystem, "_abort_mpu", unreachable)
        for name in ("a/large", "b"):
            with pytest.raises(StorageError, match="no permission"):
                root.put_file(large, name)
    begun = root.uploads()
    assert {path for path, _ in begun} == {"a/large", "b"}
    for path, upload in begun:
        root.abort(path, upload)
        root.abort(path, upload)  # twice is no error
    assert root.uploads() == {}


def test_a_server_that_is_busy_is_asked_again(bucket_url, monkeypatch):
    root = Root.open(bucket_url)
    root.write("a", b"1")
    cat_file, failures = s3fs.S3FileSystem.cat_file, [TimeoutError(), OSError(16, "x")]

    def flaky(self, *arguments, **options):
        if failures:
            raise failures.pop()
        return cat_file(self, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "cat_file", flaky)
    monkeypatch.setattr("storage.patience.SHORTEST_WAIT", 0.0)
    assert root.read("a") == b"1"


def test_buckets_of_one_name_on_two_servers_do_not_share_copies(s3_environment):
    s3_environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    one = Root("s3://bucket/prefix").cache
    s3_environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:2")
    assert Root("s3://bucket/prefix").cache != one
    assert Root("s3://bucket/prefix").cache == Root("s3://bucket/prefix/").cache
