"""What a question cannot do, whoever asks it."""

import os

import pandas
import pytest

from mergegrid.errors import ResultsError
from storage import asking

WORD = "a-secret-that-no-answer-may-hold"

WRITING = [
    "INSERT INTO cells (cell) VALUES ('x')",
    "UPDATE cells SET cell = 'x'",
    "DELETE FROM cells",
    "TRUNCATE cells",
    "MERGE INTO cells USING scores ON true WHEN MATCHED THEN DELETE",
    "DROP TABLE cells",
    "ALTER TABLE cells ADD COLUMN more INTEGER",
    "COMMENT ON TABLE cells IS 'x'",
    "CREATE TABLE mine (x INTEGER)",
    "CREATE TABLE memory.main.mine AS SELECT 1",
    "CREATE TEMP TABLE mine AS SELECT 1",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE MACRO mine(x) AS x",
    "CREATE SCHEMA mine",
    "EXPLAIN ANALYZE DELETE FROM cells",
    "COPY cells TO '{path}/stolen.csv'",
    "COPY (SELECT 1) TO '{path}/stolen.parquet'",
    "COPY cells FROM '{path}/secret'",
    "COPY FROM DATABASE results TO memory",
    "EXPORT DATABASE '{path}/stolen'",
    "IMPORT DATABASE '{path}'",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
]

READING = [
    "ATTACH '{path}/other.duckdb'",
    "ATTACH ':memory:' AS other",
    "DETACH results",
    "USE memory",
    "SELECT * FROM '{path}/secret'",
    "FROM '{path}/*.csv'",
    "SELECT * FROM read_csv('{path}/secret')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM sniff_csv('{path}/secret')",
    "SELECT * FROM read_text('{path}/secret')",
    "SELECT * FROM read_blob('{path}/*')",
    "SELECT * FROM read_json('{path}/secret')",
    "SELECT * FROM read_parquet('{path}/secret')",
    "SELECT * FROM parquet_metadata('{path}/secret')",
    "SELECT * FROM read_duckdb('{path}/other.duckdb')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM glob('{path}/*')",
    "SELECT * FROM query('SELECT * FROM read_text(''{path}/secret'')')",
    "SELECT getenv('A_SECRET')",
    "SELECT * FROM duckdb_secrets()",
    "CREATE SECRET mine (TYPE s3, PROVIDER credential_chain)",
    "SELECT * FROM a_table_of_this_process",
    "SELECT * FROM 'http://127.0.0.1:1/x.parquet'",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM sqlite_scan('{path}/secret', 'x')",
]

UNLOCKING = [
    "INSTALL httpfs",
    "FORCE INSTALL httpfs FROM '{path}'",
    "LOAD httpfs",
    "LOAD '{path}/mine.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET GLOBAL enable_external_access = true",
    "RESET enable_external_access",
    "PRAGMA enable_external_access = true",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "PRAGMA lock_configuration = false",
    "SET allowed_directories = ['/']",
    "SET allowed_paths = ['/etc/passwd']",
    "SET autoinstall_known_extensions = true",
    "SET allow_unsigned_extensions = true",
    "SET extension_directory = '{path}'",
    "SET home_directory = '{path}'",
    "SET temp_directory = '{path}'",
    "SET python_enable_replacements = true",
    "SET threads = 1",
    "SET VARIABLE x = 1",
    "PRAGMA enable_profiling",
    "PRAGMA profiling_output = '{path}/stolen'",
    "CALL enable_logging(storage = 'file', storage_path = '{path}')",
]

SEVERAL = [
    "",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE cells",
    "PREPARE mine AS SELECT 1; EXECUTE mine",
]

a_table_of_this_process = pandas.DataFrame({"x": [WORD]})


def contents(path):
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("statement", [*WRITING, *READING, *UNLOCKING, *SEVERAL])
def test_a_question_changes_nothing_and_reads_nothing_but_the_results(
    small, tmp_path, monkeypatch, statement
):
    monkeypatch.setenv("A_SECRET", WORD)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text(WORD)
    (tmp_path / "x.csv").write_text(f"{WORD}\n{WORD}\n")
    before = contents(tmp_path)
    with pytest.raises(ResultsError) as caught:
        small.query(statement.replace("{path}", str(tmp_path)))
    assert "\n" not in str(caught.value)
    assert WORD not in str(caught.value)
    assert contents(tmp_path) == before


def test_a_question_that_needs_much_memory_leaves_no_file(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    little = {"memory_limit": "'20MB'", **asking._SETTINGS}
    monkeypatch.setattr(asking, "_SETTINGS", little)
    with pytest.raises(ResultsError, match=r"[Mm]emory"):
        small.query("SELECT list(x) FROM range(50_000_000) t(x) GROUP BY x % 1000")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "question",
    [
        "SELECT count(*) FROM cells",
        "FROM cells LIMIT 1",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "DESCRIBE cells",
        "SHOW TABLES",
        "SUMMARIZE scores",
        "EXPLAIN SELECT * FROM leaderboard",
        "PIVOT cells ON method USING count(*)",
        "VALUES (1), (2)",
        "SELECT 1 -- and no more",
        "SELECT 1;",
    ],
)
def test_every_way_to_ask_is_answered(small, question):
    columns, rows = small.query(question)
    assert columns
    assert rows


def test_the_environment_is_not_among_the_settings_that_can_be_read(small, monkeypatch):
    monkeypatch.setenv("A_SECRET", WORD)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WORD)
    _, settings = small.query("SELECT * FROM duckdb_settings()")
    assert settings
    assert WORD not in str(settings)
    assert os.environ["A_SECRET"] == WORD
