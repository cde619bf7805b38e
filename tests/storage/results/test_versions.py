"""Databases and rows of other versions: brought up to date, or refused."""

import duckdb
import pytest

from mergegrid.errors import ResultsError
from storage.schema import schema_digest


@pytest.fixture
def older(small):
    """The database as another version made it: with another column, without a view."""
    with duckdb.connect(small.path) as connection:
        connection.execute("UPDATE built_by SET schema = 'earlier'")
        connection.execute("DROP VIEW pareto")
        connection.execute("ALTER TABLE scores DROP COLUMN role CASCADE")
    return small


def test_a_database_of_another_version_is_not_asked(older):
    with pytest.raises(
        ResultsError, match=r"another version .* python -m flows rebuild"
    ):
        older.query("SELECT count(*) FROM cells")


@pytest.mark.parametrize("way", ["refresh", "rebuild"])
def test_a_database_of_another_version_is_made_anew(older, by_hand, way):
    getattr(older, way)()
    assert older.query("SELECT schema FROM built_by")[1] == [(schema_digest(),)]
    _, ((roles, experiments),) = older.query(
        "SELECT (SELECT count(role) FROM scores), (SELECT count(*) FROM pareto)"
    )
    rows = [row for record in by_hand.records().values() for row in record]
    assert roles == sum(row["table"] == "scores" for row in rows)
    assert experiments > 0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema_version": 0}, "a row of costs, version 0"),
        ({"schema_version": 2}, "a row of costs, version 2"),
        ({"schema_version": None}, "a row of costs, version None"),
        ({"schema_version": "1"}, "a row of costs, version 1"),
        ({"table": "pictures"}, "a row of 'pictures'"),
        ({"table": None}, "a row of 'None'"),
        ({"watts": 3.5}, "a row of costs with watts"),
    ],
)
def test_a_row_of_another_version_is_refused_and_named(
    tmp_path, by_hand, change, match
):
    row = by_hand.cost("base", "pretrain", 1) | change
    database = by_hand.results(tmp_path, by_hand.Ledger({"one/record": [row]}))
    with pytest.raises(ResultsError, match=match) as caught:
        database.refresh()
    assert "one/record" in str(caught.value)
    assert "use the version that wrote it" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not database.path.exists()
