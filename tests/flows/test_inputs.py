"""Bad input: one line that names thing and way out; status 2; nothing written."""

import socket

import duckdb
import pytest


@pytest.fixture
def refused(ask):
    """Give a command that has to be refused, and return its one line."""

    def refused(*arguments):
        line = ask(*arguments, status=2)
        assert line.startswith("error: ")
        assert line.count("\n") == 1
        return line

    return refused


GRID = {
    "a misspelt method": ([{"methods": ["tie"]}], "Did you mean 'ties'"),
    "a misspelt option": (
        [{"methods": [{"name": "ties", "options": {"densty": 0.2}}]}],
        "Did you mean 'density'",
    ),
    "an option out of range": (
        [{"methods": [{"name": "ties", "options": {"density": 2}}]}],
        "density = 2 is not possible",
    ),
    "a subset larger than the suite": (
        [{"methods": ["average"], "subsets": {"nested": {"sizes": [7]}}}],
        "a subset of 7 experts is larger than the suite, which has 3",
    ),
}


@pytest.mark.parametrize(("grid", "message"), GRID.values(), ids=GRID)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_wrong_grid_is_refused_before_anything_is_made(
    refused, file, tmp_path, command, grid, message
):
    root = tmp_path / "root"
    assert message in refused(command, file(grid=grid), "--root", root)
    assert not root.exists()


def test_a_file_that_is_not_there_is_named(refused, tmp_path):
    line = refused("run", tmp_path / "none.yaml", "--root", tmp_path / "root")
    assert "none.yaml: No such file or directory" in line
    assert not (tmp_path / "root").exists()


def test_a_root_that_cannot_be_one_is_named(refused, file, tmp_path):
    (tmp_path / "taken").write_text("a file")
    line = refused("run", file(), "--root", tmp_path / "taken")
    assert str(tmp_path / "taken") in line


@pytest.mark.parametrize("where", ["many", "0", "-2", "tcp://host", "tcp://host:port"])
def test_a_cluster_that_cannot_be_is_refused_before_anything_is_started(
    refused, file, tmp_path, where
):
    root = tmp_path / "root"
    assert repr(where) in refused("run", file(), "--root", root, f"--dask={where}")
    assert not root.exists()


def test_a_cluster_that_does_not_answer_is_named(refused, file, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        where = f"tcp://127.0.0.1:{gone.getsockname()[1]}"
    root = tmp_path / "root"
    line = refused("run", file(), "--root", root, "--dask", where)
    assert f"{where}: no scheduler answers" in line
    assert not root.exists()


def test_results_that_are_nowhere_are_not_made_up(refused, tmp_path):
    line = refused("sql", "SELECT 1", "--root", tmp_path / "nowhere")
    assert "nowhere" in line
    assert not (tmp_path / "nowhere").exists()


def test_a_bucket_that_does_not_answer_is_named_within_seconds(
    refused, file, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
    line = refused("run", file(), "--root", "s3://bucket/prefix")
    assert "s3://bucket/prefix" in line
    assert "not-to-be-shown" not in line


def test_a_database_that_cannot_be_read_names_the_command_that_mends_it(
    refused, tmp_path
):
    (tmp_path / "results.duckdb").write_bytes(b"this is no database" * 1000)
    line = refused("sql", "SELECT 1", "--root", tmp_path)
    assert "python -m flows rebuild" in line


def test_somebody_elses_database_is_left_alone(refused, tmp_path):
    path = tmp_path / "results.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE theirs AS SELECT 42 AS answer")
    refused("sql", "SELECT 1", "--root", tmp_path)
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT answer FROM theirs").fetchall() == [(42,)]
