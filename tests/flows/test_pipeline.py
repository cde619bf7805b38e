"""The whole pipeline through its command line, on the smallest experiment."""

import csv
import io
import json
from html.parser import HTMLParser

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Share one root: each test finds what those before it have made."""
    return tmp_path_factory.mktemp("pipeline") / "root"


def planned(text, step):
    (line,) = (words for words in map(str.split, text.splitlines()) if step in words)
    _, steps, reused, to_run, *_, cells = line
    return int(steps), int(reused), int(to_run), int(cells)


def test_a_plan_counts_steps_and_the_cells_that_need_them(ask, file, root):
    text = ask("plan", file(), "--root", root)
    assert "tiny: 23 steps, 0 reused, 23 to run; 21 cells, 0 reused" in text
    assert planned(text, "train") == (3, 0, 3, 21)
    assert planned(text, "fisher") == (3, 0, 3, 1)
    assert planned(text, "gram") == (3, 0, 3, 4)
    assert not root.exists()


def test_a_run_shows_every_method_and_model_for_reference(run, file, root):
    text = run(file(), "--root", root)
    shown = {words[0] for words in map(str.split, text.splitlines()) if words}
    assert shown >= {
        "average", "mlerp", "task_arithmetic", "dare", "ties", "fisher", "regmean",
        "mats", "pretrained", "individual", "multitask", "pretrain", "train", "gram",
    }  # fmt: skip
    for line in text.splitlines():
        if line.startswith(("data ", "database ", "report ")):
            assert str(root) in line
    assert (root / "results.duckdb").is_file()


def test_a_second_run_reuses_everything_and_changes_nothing(run, file, root, tables):
    found = tables(root)
    text = run(file(), "--root", root)
    assert "23 reused, 0 to run; 21 cells, 21 reused, 0 to score" in text
    assert tables(root) == found


def test_a_wider_grid_runs_its_new_cells_only(run, ask, file, root):
    ties = {"name": "ties", "options": {"density": [0.2, 0.5], "scale": [0.5]}}
    wider = file(name="wider", grid=[{"methods": [ties]}])
    text = ask("plan", wider, "--root", root)
    assert "2 cells, 1 reused, 1 to score" in text
    assert planned(text, "trim") == (6, 3, 3, 2)
    assert planned(text, "train")[2] == 0
    run(wider, "--root", root)
    rows = ask(
        "sql", "SELECT * FROM cells WHERE experiment = 'wider' AND kind = 'merged'",
        "--root", root, "--format", "json",
    )  # fmt: skip
    assert len(json.loads(rows)) == 2


def test_a_dask_cluster_leaves_the_tables_that_threads_leave(
    run, file, tables, tmp_path
):
    few = file(
        grid=[{"methods": ["average", {"name": "ties", "options": {"scale": 1}}]}]
    )
    run(few, "--root", tmp_path / "threads")
    run(few, "--root", tmp_path / "cluster", "--dask", "2")
    assert tables(tmp_path / "cluster") == tables(tmp_path / "threads")


def test_a_rebuilt_database_is_the_same(ask, root, tables):
    found = tables(root)
    ask("rebuild", "--root", root)
    assert tables(root) == found


def test_rows_come_as_table_json_and_csv(ask, root):
    query = "SELECT method, size FROM cells WHERE method = 'mlerp'"

    def answer(form):
        return ask("sql", query, "--root", root, "--format", form)

    assert json.loads(answer("json")) == [{"method": "mlerp", "size": 3}]
    assert list(csv.reader(io.StringIO(answer("csv")))) == [
        ["method", "size"],
        ["mlerp", "3"],
    ]
    assert "1 row" in answer("table")


def test_queries_cannot_change_anything(ask, root):
    line = ask("sql", "DELETE FROM cells", "--root", root, status=2)
    assert line.startswith("error: ")


def test_every_score_says_what_it_was_made_from(ask, root):
    orphans = ask(
        "sql",
        """
        SELECT count(*) AS orphans FROM scores
        WHERE cell NOT IN (SELECT child FROM lineage)
           OR cell NOT IN (SELECT step FROM costs WHERE stage = 'evaluate')
        """,
        "--root", root, "--format", "json",
    )  # fmt: skip
    assert json.loads(orphans) == [{"orphans": 0}]


def test_waiting_cells_took_the_scale_that_validation_chose(ask, root):
    query = """
        WITH validation AS (
            SELECT cell, avg(value) AS accuracy FROM scores
            WHERE split = 'validation' GROUP BY cell
        )
        SELECT (
            SELECT cast(options->>'scale' AS DOUBLE)
            FROM cells JOIN validation USING (cell)
            WHERE experiment = 'tiny' AND method = 'task_arithmetic'
            ORDER BY accuracy DESC, 1 LIMIT 1
        ) AS best,
        (SELECT list(DISTINCT cast(options->>'scale' AS DOUBLE)) FROM cells
         WHERE experiment = 'tiny' AND method = 'dare') AS taken
    """
    text = ask("sql", query, "--root", root, "--format", "json")
    (row,) = json.loads(text)
    assert row["taken"] == [row["best"]]


class Fetched(HTMLParser):
    """What a browser would fetch for a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        if tag in {"script", "link", "img", "iframe", "source"}:
            self.addresses += [v for name, v in attrs if name in {"src", "href"}]


def test_a_report_is_one_page_that_fetches_nothing(ask, file, root):
    ask("report", file(), "--root", root)
    page = (root / "reports" / "tiny.html").read_text(encoding="utf-8")
    fetched = Fetched()
    fetched.feed(page)
    assert "task_arithmetic" in page
    assert all(address.startswith("data:") for address in fetched.addresses)


def test_a_model_for_each_task_is_scored_on_its_task_and_the_leaderboard_says_so(
    ask, root
):
    query = """
        SELECT count(*), count(DISTINCT task), count(*) FILTER (role = 'generalization')
        FROM cells JOIN scores USING (cell)
        WHERE method = 'tall_masks' AND split = 'test'
    """
    text = ask("sql", query, "--format", "csv", "--root", root)
    assert text.splitlines()[1] == "6,3,0"  # two cells of three experts
    query = """
        SELECT method, models, generalization IS NULL FROM leaderboard
        WHERE method IN ('tall_masks', 'consensus') AND subset = 1 ORDER BY method
    """
    text = ask("sql", query, "--format", "csv", "--root", root)
    assert text.splitlines()[1:] == [
        "consensus,one,False",
        "tall_masks,per task,True",
    ]


def test_storage_is_the_papers_formula_in_bits_and_less_in_bytes(ask, root):
    query = """
        SELECT DISTINCT part, bits, bytes FROM cells JOIN storage USING (cell)
        WHERE method = 'tall_masks' AND options->>'mask_threshold' = '0.3'
    """
    text = ask("sql", query, "--format", "csv", "--root", root)
    rows = (row.split(",") for row in text.splitlines()[1:])
    parts = {part: (float(bits), float(size)) for part, bits, size in rows}
    query = """
        SELECT part, min(bits), max(bits), count(DISTINCT cell)
        FROM cells JOIN storage USING (cell)
        WHERE method IN ('individual', 'pretrained') GROUP BY part ORDER BY part
    """
    text = ask("sql", query, "--format", "csv", "--root", root)
    counted = {
        part: [float(number) for number in numbers]
        for part, *numbers in (row.split(",") for row in text.splitlines()[1:])
    }
    trained, frozen = counted["experts"][0], counted["frozen"][0]
    assert counted["experts"] == [trained, trained, 3]
    assert counted["model"] == [trained + frozen, trained + frozen, 1]
    assert {part: bits for part, (bits, _) in parts.items()} == {
        "pretrained": trained + frozen,
        "task_vector": trained,
        "masks": 3 * trained / 32,
    }
    assert 8 * parts["pretrained"][1] == trained + frozen
    assert parts["task_vector"][1] < trained / 8 + 300
    assert parts["masks"][1] < 3 * trained / 256 + 3 * 300
    query = "SELECT method, bits, bytes FROM storage_vs_accuracy WHERE is_chosen"
    text = ask("sql", query, "--format", "csv", "--root", root)
    assert {"tall_masks", "average", "individual", "pretrained"} <= {
        row.split(",")[0] for row in text.splitlines()
    }


def test_every_task_chose_its_mask_threshold_on_its_own_validation(ask, root):
    query = """
        SELECT options->'mask_threshold', experts FROM cells
        WHERE method = 'consensus'
    """
    chosen = ask("sql", query, "--format", "csv", "--root", root).splitlines()[1]
    query = """
        SELECT task, arg_max(
            CAST(options->>'mask_threshold' AS DOUBLE),
            (value, -CAST(options->>'mask_threshold' AS DOUBLE))
        )
        FROM cells JOIN scores USING (cell)
        WHERE method = 'tall_masks' AND split = 'validation'
        GROUP BY task
    """
    rows = ask("sql", query, "--format", "csv", "--root", root).splitlines()[1:]
    best = dict(row.rsplit(",", 1) for row in rows)
    experts = chosen.split("[", 2)[2].rstrip(']"').replace("'", "").split(", ")
    thresholds = chosen.split("[")[1].split("]")[0].split(",")
    assert [float(t) for t in thresholds] == [float(best[e]) for e in experts]
