"""The page of a report, put together from answered questions."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

from plotly.offline import get_plotlyjs

from dashboards.findings import findings
from dashboards.questions import Answered
from dashboards.sections import SECTIONS
from dashboards.text import duration
from dashboards.transductive import key

HOUSE_CSS = Path(__file__).with_name("house.css").read_text(encoding="utf-8")
"""How tables and facts look, here and in the app."""

_CSS = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
_DRAW = """
for (const element of document.querySelectorAll(".plot")) {
  const drawing = JSON.parse(element.nextElementSibling.textContent);
  Plotly.newPlot(element, drawing.data, drawing.layout,
    {displayModeBar: false, responsive: true});
}
"""


def page(experiment: str, answers: Mapping[str, Answered]) -> str:
    """Write the whole page.

    Args:
        experiment: the experiment's name.
        answers: question to its answer.

    Returns:
        HTML with styles, figures and scripts inside.
    """
    sections = "\n".join(section(answers) for section in SECTIONS)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(experiment)}: merge methods compared</title>
<link rel="icon" href="data:,">
<style>
{HOUSE_CSS}{_CSS}</style>
</head>
<body>
{_header(experiment, answers)}
<main>
{sections}
</main>
<footer>Written by mergegrid from <code>results.duckdb</code>; ask it more with
<code>python -m flows sql "SELECT ..."</code>.</footer>
<script>{get_plotlyjs()}</script>
<script>{_DRAW}</script>
</body>
</html>
"""


def _header(experiment: str, answers: Mapping[str, Answered]) -> str:
    facts = answers["provenance"].rows[0]
    board = answers["leaderboard"].rows
    document = json.loads(facts["document"] or "{}")
    numbers = {
        "suite": facts["suite"],
        "experts": max((row["size"] for row in board), default=0),
        "held-in tasks": facts["held_in_tasks"],
        "generalization tasks": facts["generalization_tasks"],
        "merges": facts["cells"],
        "compute time": duration(sum(row["seconds"] for row in answers["spent"].rows)),
    }
    listed = "".join(
        f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in numbers.items()
    )
    description = document.get("description") or "Merge methods compared."
    missing = facts["cells"] - facts["scored"]
    notice = (
        f'<p class="notice">{missing} of {facts["cells"]} merges have no scores yet; '
        "what follows is about the others.</p>"
        if missing
        else ""
    )
    said = "".join(
        f"<li>{escape(sentence)}</li>"
        for sentence in findings({name: a.rows for name, a in answers.items()})
    )
    return f"""<header>
<h1>{escape(experiment)}</h1>
<p class="description">{escape(description)}</p>
<dl class="facts">{listed}</dl>
{notice}
<ul class="findings">{said}</ul>
{key(said)}
</header>"""
