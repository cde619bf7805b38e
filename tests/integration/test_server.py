"""What only a real S3 server shows: Ceph's radosgw, over HTTP."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
import s3fs

from mergegrid.errors import StorageError
from storage.artifacts import ArtifactStore
from storage.garbage import CUT_OFF, sweep
from storage.ledger import Ledger
from storage.root import Root

pytestmark = pytest.mark.slow

GUEST = {"AWS": ["arn:aws:iam:::user/guest"]}
MAY_READ = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": GUEST,
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::shared/p/*",
        },
        {
            "Effect": "Allow",
            "Principal": GUEST,
            "Action": "s3:ListBucket",
            "Resource": "arn:aws:s3:::shared",
            "Condition": {"StringLike": {"s3:prefix": "p/*"}},
        },
    ],
}
"""The guest may read what is below `p` in the bucket `shared`, and see nothing else."""


@pytest.fixture(scope="module")
def buckets(radosgw):
    """Make a bucket of the owner's, and one that the guest may read."""
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=radosgw.url,
        aws_access_key_id=radosgw.owner[0],
        aws_secret_access_key=radosgw.owner[1],
    )
    client.create_bucket(Bucket="own")
    client.create_bucket(Bucket="shared")
    client.put_bucket_policy(Bucket="shared", Policy=json.dumps(MAY_READ))


@pytest.fixture
def root(tmp_path, request):
    request.getfixturevalue("at_radosgw")
    request.getfixturevalue("buckets")
    return Root.open(f"s3://own/{tmp_path.name}")


def refusal(url, *, create=True):
    with pytest.raises(StorageError) as caught:
        Root.open(url, create=create)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.usefixtures("buckets")
def test_what_is_missing_is_named_in_one_line(at_radosgw, monkeypatch):
    key, secret = at_radosgw.owner
    assert "there is no such bucket" in refusal("s3://nowhere/prefix")
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
        assert "check AWS_SECRET_ACCESS_KEY" in refusal("s3://own/prefix")
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_ACCESS_KEY_ID", "x" * 20)
        assert "check AWS_ACCESS_KEY_ID" in refusal("s3://own/prefix")
    with monkeypatch.context() as guest:
        guest.setenv("AWS_ACCESS_KEY_ID", at_radosgw.guest[0])
        guest.setenv("AWS_SECRET_ACCESS_KEY", at_radosgw.guest[1])
        for create in (True, False):
            line = refusal("s3://own/prefix", create=create)
            assert "the credentials have no permission for that" in line
            assert key not in line
            assert secret not in line


@pytest.mark.usefixtures("buckets")
def test_who_may_only_read_reads_and_is_told_when_that_is_not_enough(
    at_radosgw, monkeypatch
):
    Root.open("s3://shared/p").write("a", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", at_radosgw.guest[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", at_radosgw.guest[1])
    assert "Cannot write to s3://shared/p: the cred" in refusal("s3://shared/p")
    assert "no permission" in refusal("s3://shared/q", create=False)
    root = Root.open("s3://shared/p", create=False)
    assert root.read("a") == b"1"
    assert root.find() == {"a": 1}
    with pytest.raises(StorageError, match=r"Cannot write b .* no permission"):
        root.write("b", b"1")


def test_of_many_writers_of_a_new_name_one_is_first(root):
    with ThreadPoolExecutor(12) as pool:
        for turn in range(5):
            name = f"manifest-{turn}"
            first = list(
                pool.map(lambda i, n=name: root.create(n, b"%d" % i), range(12))
            )
            assert sum(first) == 1
            assert root.read(name) == b"%d" % first.index(True)


def test_a_large_file_goes_in_parts_and_comes_back_whole(root, tmp_path):
    local, copy = tmp_path / "large", tmp_path / "copy"
    local.write_bytes(b"".join(i.to_bytes(8) for i in range(5 << 20)))  # 40 MiB
    root.put_file(local, "large")
    root.get_file("large", copy)
    assert copy.read_bytes() == local.read_bytes()
    assert root.uploads() == {}


def test_an_upload_that_was_cut_off_is_swept_once_it_is_old(
    root, tmp_path, monkeypatch
):
    local = tmp_path / "large"
    local.write_bytes(bytes(40 << 20))
    call = s3fs.S3FileSystem._call_s3

    async def killed(self, method, *arguments, **options):
        if options.get("PartNumber") == 2 or method == "abort_multipart_upload":
            raise PermissionError(13, "killed")
        return await call(self, method, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(s3fs.S3FileSystem, "_call_s3", killed)
        with pytest.raises(StorageError):
            root.put_file(local, "artifacts/a-v1-1/content/large")
    (begun,) = root.uploads().values()
    root.write("now", b"")
    assert abs(root.times()["now"] - begun) < 60  # by the server's clock
    assert list(sweep(root, set, grace=3600)) == []
    (part,) = sweep(root, set, grace=-60)
    assert part.reason == CUT_OFF
    assert root.uploads() == {}


def test_writers_on_one_ledger_lose_nothing(root):
    def write(writer):
        ledger = Ledger(Root(root.url))
        for i in range(25):
            ledger.append(f"cell-{i}", [{"table": "costs", "step": f"{writer}-{i}"}])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    ledger = Ledger(root)
    steps = {rows[0]["step"] for _, rows in ledger.read(ledger.list())}
    assert steps == {f"{writer}-{i}" for writer in range(4) for i in range(25)}


def test_operations_wait_for_a_server_that_is_away(root, at_radosgw, caplog):
    store = ArtifactStore(root)
    with ThreadPoolExecutor(2) as pool:
        at_radosgw.tell("off")
        try:
            waiting = [
                pool.submit(root.write, "a", b"1"),
                pool.submit(store.keys),
            ]
            deadline = time.monotonic() + 60
            while not caplog.messages:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert not any(future.done() for future in waiting)
        finally:
            at_radosgw.tell("on")
        for future in waiting:
            future.result(timeout=60)
    assert root.read("a") == b"1"
    first, last = caplog.messages
    assert "127.0.0.1" in first
    assert "does not answer" in first
    assert "answers again" in last
