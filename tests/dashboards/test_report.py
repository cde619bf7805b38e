import json
import re
import shutil
import subprocess
from html import escape, unescape

import pytest

from dashboards.report import ASKED, write_report
from dashboards.sections import SECTIONS
from mergegrid.errors import ResultsError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def page(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    write_report(small, "small", path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def own(page):
    """The page without plotly's script."""
    return re.sub(r"<script>.{1000000,}?</script>", "", page, flags=re.DOTALL)


def sections(own):
    return re.findall(r'<section id="(\w+)">', own)


def test_sections_come_in_their_order_and_only_with_something_to_show(
    own, studied, tmp_path
):
    names = [section.__name__ for section in SECTIONS]
    write_report(studied, "studies", tmp_path / "report.html")
    there = sections((tmp_path / "report.html").read_text(encoding="utf-8"))
    for found in (sections(own), there):
        assert found == [name for name in names if name in found]
    assert "selections" not in sections(own)
    assert {
        "leaderboard",
        "trade_off",
        "differences",
        "bootstrap",
        "tasks",
        "kept",
        "options",
        "sizes",
        "costs",
        "time",
        "paper",
        "provenance",
    } <= set(sections(own))
    assert {
        "scale_sweeps",
        "selections",
        "consensus_thresholds",
        "incremental",
        "memory",
    } <= set(there)


def test_a_suite_without_generalization_tasks_has_all_figures_of_held_in_ones(
    build, small_rows, tmp_path
):
    rows = [row for row in small_rows if row.get("role") != "generalization"]
    write_report(build(rows), "small", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    there = {"bootstrap", "tasks", "kept", "options", "sizes", "costs", "time"}
    assert there <= set(sections(page))
    assert "trade_off" not in sections(page)
    assert "generalization accuracy" not in page


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        ("glyphs", "with ViT-B-32. Models and data differ"),
        ("vision8", "with ViT-B-32. What differs"),
    ],
)
def test_results_stand_beside_a_paper_about_their_suite(
    build, small_rows, tmp_path, suite, said
):
    document = json.dumps({"suite": {"name": suite, "model": "ViT-B-32"}})
    rows = [
        row | {"suite": suite, "document": document} if "suite" in row else row
        for row in small_rows
    ]
    write_report(build(rows), "small", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    beside = {"glyphs": "domainnet"}.get(suite, suite)
    text = " ".join(page.split())
    assert f"its suite {beside} {said}" in text
    assert ("<em>Realistic Evaluation" in text) == (suite == "glyphs")


def test_nothing_is_fetched(own):
    tags = re.findall(r"<(?:link|script|img|iframe|source)\b[^>]*>", own)
    addresses = [a for tag in tags for a in re.findall(r'(?:src|href)="([^"]*)"', tag)]
    assert addresses == ["data:,"]
    assert "@import" not in own
    assert "url(" not in own


def test_plotly_is_inside_once(page):
    assert len(re.findall(r"<script>.{1000000,}?</script>", page, re.DOTALL)) == 1


def test_every_question_can_be_asked_as_it_is_shown(own, small):
    shown = [unescape(sql) for sql in re.findall(r"<pre>(--.*?)</pre>", own, re.DOTALL)]
    assert 12 < len(shown) <= len(ASKED)
    for sql in shown:
        assert "$" not in sql
        small.query(sql)


def test_figures_hold_what_plotly_needs(own):
    drawings = re.findall(r'<script type="application/json">(.*?)</script>', own)
    assert len(drawings) > 10
    for drawing in drawings:
        assert "<" not in drawing
        assert {"data", "layout"} <= set(json.loads(drawing))


def test_text_from_the_database_is_escaped(own):
    assert "<b>merging" not in own
    assert escape("Is <b>merging</b> worth it?") in own


def test_findings_say_what_the_numbers_say(own):
    text = " ".join(unescape(own).split())
    assert "Best on held-in tasks: RegMean (off_diagonal 0.9) with 71.0 ± 1.9%" in text
    assert "20.0 above the pretrained model" in text
    assert "10.0 below the multitask model" in text
    assert "held-in accuracy falls from 68.2 to 65.7%" in text
    assert "RegMean is ahead of everything cheaper by more than two" in text
    assert "with changes that are not in it" in text


def test_the_best_merge_is_bold_in_the_leaderboard(own):
    bold = re.findall(r'<td class="best">([\d.]+)', own)
    assert bold == ["71.0", "62.5", f"{100 * (70 / 90 + 71 / 90 + 72 / 90) / 3:.1f}"]


def test_an_unknown_experiment_is_answered_with_those_known(small, tmp_path):
    with pytest.raises(ResultsError, match=r"'smal'\. Known: small\."):
        write_report(small, "smal", tmp_path / "report.html")


def test_a_place_that_cannot_be_written_is_named(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"^Cannot write .*report\.html: "):
        write_report(small, "small", tmp_path / "file" / "report.html")


@pytest.mark.parametrize(
    "reached", ["nothing", "references", "cells", "one merge", "no references"]
)
def test_a_run_that_was_cut_off_has_a_report(build, stages_of_a_run, tmp_path, reached):
    path = tmp_path / "report.html"
    write_report(build(stages_of_a_run[reached]), "small", path)
    assert '<section id="provenance">' in path.read_text(encoding="utf-8")


def test_what_is_missing_is_said(build, stages_of_a_run, tmp_path):
    path = tmp_path / "report.html"
    write_report(build(stages_of_a_run["one merge"]), "small", path)
    assert "12 of 13 merges have no scores yet" in path.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_draws_every_figure(own, page, tmp_path):
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000"]
    drawn = subprocess.run(
        [str(CHROMIUM), *flags, (tmp_path / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    wanted = own.count('<div class="plot"')
    assert drawn.count('class="plot js-plotly-plot"') == wanted
