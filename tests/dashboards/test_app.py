"""Every page of the app, without a browser."""

import time

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards.app import show
from dashboards.app.menu import MENU, SCREENS
from dashboards.palette import color
from dashboards.shades import on_dark
from mergegrid.errors import ResultsError
from mergegrid.methods import METHODS
from storage.ledger import Ledger
from storage.results import Results
from storage.root import Root

SCRIPT = SCREENS.parent / "main.py"
CELL = "average-0-{}"
SECONDS = 30


@pytest.fixture(scope="module", autouse=True)
def forget():
    """Let go of databases before Python ends, or DuckDB complains at length."""
    yield
    st.cache_resource.clear()


@pytest.fixture
def visit(monkeypatch):
    """Open a page of the app over a root."""

    def open_page(root, page="overview", **query):
        monkeypatch.setenv("MERGEGRID_ROOT", str(root))
        app = AppTest.from_file(SCRIPT, default_timeout=SECONDS)
        app.query_params = query
        return turn(app.run(), page)

    return open_page


def turn(app, page):
    if page != "overview":
        app.switch_page(f"screens/{page}.py").run()
    assert not app.exception, (page, app.exception)
    return app


def texts(app):
    return "\n".join(
        [element.value for element in (*app.header, *app.info, *app.caption)]
        + [element.proto.body for element in app.html]
    )


def charts(app):
    return app.get("plotly_chart")


PAGES = [entry.name for entry in MENU]
FIGURES = {
    "leaderboard": 3,
    "pairs": 4,
    "trade_off": 2,
    "sensitivity": 4,
    "scaling": 3,
    "costs": 6,
    "per_task": 1,
    "learned": 2,
    "papers": 2,
    "cell": 1,
}


def test_every_page_shows_its_figures_with_their_sql_and_data(whole, visit):
    app = visit(whole, cell=CELL)
    for page in PAGES:
        turn(app, page)
        assert app.header, page
        assert len(charts(app)) == FIGURES.get(page, 0), page
        sql = [code for code in app.code if code.language == "sql"]
        assert bool(sql) == (page != "sql")
        assert len(app.download_button) >= len(sql), page
        assert len(app.dataframe) >= len(sql), page


STUDIES = {"sensitivity": 14, "scaling": 6, "costs": 6}
"""Page to how many figures it shows of an experiment that repeats papers' studies."""


def test_the_papers_studies_are_on_the_pages_about_their_subject(whole_studies, visit):
    app = visit(whole_studies, "overview", experiment="studies")
    for page, count in STUDIES.items():
        assert len(charts(turn(app, page))) == count, page
    turn(app, "sensitivity")
    headings = [header.value for header in app.header]
    assert "The largest entries, or as many at random" in headings
    assert "consensus, k = 2" in texts(app)


def test_task_vectors_are_on_a_page_of_their_own(whole_profiled, visit):
    app = visit(whole_profiled, "task_vectors")
    assert app.multiselect(key="violins").value == ["a/1", "b/2"]
    assert len(charts(app)) == 2 + 2 + 4 + 3 + 1
    app.multiselect(key="violins").set_value(["c/3"]).run()
    assert len(charts(app)) == 1 + 2 + 4 + 3 + 1
    app.selectbox(key="size").select(2).run()
    assert not app.exception
    assert len(charts(app)) == 1 + 2 + 4 + 3


def test_without_profiles_the_page_says_how_to_ask_for_them(whole, visit):
    assert "<code>profiles:</code>" in texts(visit(whole, "task_vectors"))


def test_what_was_learned_is_on_a_page_of_its_own(whole_learned, visit):
    app = visit(whole_learned, "learned", experiment="learned")
    assert len(charts(app)) == 2 + 1 + 3 + 2
    assert "Collapsed: the model answers b/2" in texts(app)
    assert "96 labelled" in texts(app)
    app.segmented_control(key="columns").set_value("kinds of layers").run()
    assert len(charts(app)) == 2 + 1 + 3 + 2
    app.multiselect(key="learned").set_value(["supermerge"]).run()
    assert not app.exception
    assert len(charts(app)) == 1 + 1 + 3 + 2


def test_where_nothing_was_learned_the_page_says_what_learns(whole, visit):
    assert "<code>supermerge</code>" in texts(visit(whole, "learned"))


def test_every_page_says_what_marks_methods_that_saw_the_test_inputs(
    whole_learned, whole, visit
):
    app = visit(whole_learned, experiment="learned")
    cell = "learned-adamerging-{}"
    for entry in MENU:
        if entry.name == "sql":
            continue
        app.query_params = {"cell": cell, "experiment": "learned"}
        assert "&dagger; Transductive" in texts(turn(app, entry.name)), entry.name
    assert "method: adamerging\n" in app.code[1].value
    app.query_params = {"cell": "average-0-{}", "experiment": "learned"}
    assert "Transductive" not in texts(turn(app, "cell"))
    assert "Transductive" not in texts(visit(whole))


def test_any_two_methods_can_be_compared(whole, visit):
    app = visit(whole, "pairs")
    assert app.selectbox(key="one").value == "regmean"
    app.selectbox(key="one").select("ties").run()
    assert "regmean" in app.selectbox(key="other").options or (
        "RegMean" in app.selectbox(key="other").options
    )
    app.selectbox(key="other").select("average").run()
    assert "+4.00 points over 3 held-in tasks" in texts(app)
    assert "WHERE one.method = 'ties' AND other.method = 'average'" in app.code[0].value


def test_tasks_are_a_table_and_small_figures_too(whole, visit):
    app = visit(whole, "per_task")
    app.segmented_control(key="measure-held-in").set_value("table with ranks").run()
    assert not charts(app)
    assert "n = 200" in texts(app)
    app.segmented_control(key="measure-held-in").set_value(
        "a figure for each method"
    ).run()
    assert len(charts(app)) == 4  # the merges


def test_a_suite_without_generalization_tasks_has_pages(stored, visit, small_rows):
    rows = [row for row in small_rows if row.get("role") != "generalization"]
    app = visit(stored(rows))
    for page, count in {"pairs": 2, "sensitivity": 3, "scaling": 2, "costs": 4}.items():
        assert len(charts(turn(app, page))) == count, page


@pytest.mark.parametrize("reached", ["nothing", "one merge", "no references"])
def test_pages_of_a_run_that_has_just_begun_are_no_errors(
    stored, visit, stages_of_a_run, reached
):
    app = visit(stored(stages_of_a_run[reached]), cell=CELL)
    for page in PAGES:
        assert turn(app, page).header, page


def test_without_results_pages_say_how_to_get_some(stored, visit):
    app = visit(stored([]))
    for entry in MENU:
        turn(app, entry.name)
        if entry.is_scoped:
            assert app.header[0].value == "No results yet"
            assert "python -m flows run" in app.code[0].value


def test_an_unfinished_grid_says_how_far_it_is(stored, visit, stages_of_a_run):
    app = visit(stored(stages_of_a_run["one merge"]))
    (bar,) = app.get("progress")
    assert "1 of 13 merges have scores" in bar.proto.text


def test_a_page_follows_what_is_recorded(
    stored, visit, stages_of_a_run, small_rows, monkeypatch
):
    monkeypatch.setattr("dashboards.app.follow.SECONDS", 0)
    monkeypatch.setattr("dashboards.app.follow.REST", 0)
    root = stored(stages_of_a_run["one merge"])
    app = visit(root)
    assert app.get("progress")
    Ledger(Root.open(str(root))).append("more", small_rows)
    deadline = time.monotonic() + SECONDS
    while app.get("progress") and time.monotonic() < deadline:
        app.run()
    assert not app.get("progress")


def test_pages_are_about_the_experts_that_are_chosen(whole, visit):
    app = visit(whole, "leaderboard")
    assert "3 experts in one model" in texts(app)
    app.selectbox(key="size").select(2).run()
    assert "2 experts in one model" in texts(app)
    app.switch_page("screens/per_task.py").run()
    assert app.selectbox(key="size").value == 2


def test_a_suite_leaves_its_experiments(stored, visit, small_rows):
    other = {
        **next(row for row in small_rows if row["table"] == "experiments"),
        "experiment": "other",
        "suite": "vision",
    }
    app = visit(stored([other, *small_rows]))
    assert app.selectbox(key="experiment").options == ["other", "small"]
    app.selectbox(key="suite").select("glyphs").run()
    assert app.selectbox(key="experiment").options == ["small"]


def test_methods_that_are_chosen_are_alone_in_table_and_sql(whole, visit):
    app = visit(whole, "leaderboard")
    app.multiselect(key="methods").select("ties").run()
    assert "RegMean" not in "".join(
        e.proto.body for e in app.html if "<table" in e.proto.body
    )
    assert "WHERE method IN ('ties')" in app.code[0].value


def test_every_merge_in_the_leaderboard_links_to_its_cell(whole, visit):
    app = visit(whole, "leaderboard")
    board = next(e.proto.body for e in app.html if "<table" in e.proto.body)
    assert board.count('href="cell?cell=') == 4


def test_a_cell_says_what_it_is_and_how_to_make_it_again(whole, visit):
    app = visit(whole, "cell", cell="regmean-0-{'off_diagonal': 0.9}")
    assert "RegMean of 3 experts" in texts(app)
    code = [element.value for element in app.code]
    assert any("flows export regmean-0-" in line for line in code)
    assert any("off_diagonal: 0.9" in recipe for recipe in code)
    tables = "".join(e.proto.body for e in app.html)
    assert "gram" in tables
    assert "0123456789abcdef" in tables


@pytest.mark.parametrize("cell", ["", "none", "'; DROP TABLE cells; --"])
def test_an_unknown_cell_is_said_to_be_none(whole, visit, cell):
    app = visit(whole, "cell", cell=cell)
    assert app.header[0].value.startswith("No")


def test_papers_of_another_suite_come_with_a_warning(whole, visit):
    app = visit(whole, "papers")
    # The paper with the most methods in common comes first.
    assert "The paper's suite is cross_lingual, and this experiment's is" in texts(app)
    app.selectbox(key="paper").set_value("realistic: domainnet, ViT-B-32").run()
    assert "The paper's suite is domainnet, and this experiment's is glyphs" in texts(
        app
    )


def ask(app, question):
    app.text_area(key="question").set_value(question)
    app.button(key="ask").click().run()
    assert not app.exception
    return app


def test_any_question_is_answered(whole, visit):
    app = ask(visit(whole, "sql"), "SELECT count(*) AS n FROM cells;")
    assert app.dataframe[0].value["n"].tolist() == [18]
    assert "1 row" in texts(app)


def test_an_answer_is_cut_where_it_would_not_end(whole, visit):
    app = ask(visit(whole, "sql"), "FROM range(1000000)")
    assert len(app.dataframe[0].value) == 10_000
    assert "the first 10,000 rows" in texts(app)


def test_explanations_are_answers_too(whole, visit):
    app = ask(visit(whole, "sql"), "EXPLAIN SELECT * FROM cells")
    assert not app.error


@pytest.mark.parametrize(
    "question",
    [
        "DELETE FROM cells",
        "SELECT 1) TO 'file'; COPY (SELECT 1",
        "COPY cells TO 'cells.csv'",
        "SELECT * FROM read_text('/etc/hostname')",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "ATTACH 'other.duckdb'",
        "SELECT * FROM nothing",
        "",
    ],
)
def test_what_is_no_question_is_one_line_and_changes_nothing(
    whole, visit, question, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    app = visit(whole, "sql")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    ask(app, question)
    (error,) = app.error
    assert "\n" not in error.value
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_question_that_takes_too_long_is_stopped(whole, visit, monkeypatch):
    monkeypatch.setattr("dashboards.app.free.MOST_SECONDS", 0.2)
    endless = "SELECT count(*) FROM range(10000000) a, range(10000000) b"
    app = ask(visit(whole, "sql"), endless)
    assert app.error[0].value.startswith("The question was stopped after")


def test_a_root_that_cannot_be_written_is_shown_as_it_is(
    stored, visit, small_rows, monkeypatch
):
    def refuse(_results):
        raise ResultsError("Cannot write it.")

    root = stored(small_rows)
    monkeypatch.setattr(Results, "refresh", refuse)
    app = visit(root)
    assert "These results are not up to date. Cannot write it." in texts(app)
    assert "RegMean" in texts(app)


def test_no_two_methods_names_become_one_in_the_page():
    names = [method.title for method in METHODS.values()]
    assert len({show._slug(name) for name in names}) == len(names)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_have_the_colours_of_the_page(whole, visit, theme):
    app = visit(whole, "leaderboard")
    app.context = {"theme": theme}
    app.run()
    ours = color("ties") if theme == "light" else on_dark(color("ties"))
    assert ours in charts(app)[0].proto.spec
