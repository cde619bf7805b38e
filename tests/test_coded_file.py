"""Safetensors files of one tensor whose size is not known beforehand."""

import pytest
from safetensors.torch import load_file

from mergegrid.coded_file import CodedFile

PARTS = [b"12", b"", b"345", b"x" * 1000]


def fill(path):
    with CodedFile(path) as file:
        for part in PARTS:
            file.write(part)
    return file


def test_what_is_written_is_read_by_safetensors(tmp_path):
    fill(tmp_path / "file")
    (read,) = load_file(tmp_path / "file").values()
    assert bytes(read.tolist()) == b"".join(PARTS)


def test_a_file_that_is_counted_is_as_large_as_one_that_is_written(tmp_path):
    written = fill(tmp_path / "file")
    assert fill(None).size == (tmp_path / "file").stat().st_size == written.size


def test_the_largest_size_there_can_be_has_room_in_the_header(monkeypatch, tmp_path):
    with CodedFile(tmp_path / "file") as file:
        monkeypatch.setattr(file, "_bytes", 2**63)
    header = (tmp_path / "file").read_bytes()
    assert len(header) == 8 + int.from_bytes(header[:8], "little") == 160


def test_a_file_that_is_not_finished_is_no_safetensors_file(tmp_path):
    def stopped():
        with CodedFile(tmp_path / "file") as file:
            file.write(b"12")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with pytest.raises(Exception, match="header"):
        load_file(tmp_path / "file")
