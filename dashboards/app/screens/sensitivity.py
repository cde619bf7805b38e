"""Sensitivity: how much each option of each method matters."""

from itertools import groupby

import streamlit as st

from dashboards import figures
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import choose_methods, scope
from dashboards.captions import TEXTS
from dashboards.palette import ROLES, title
from dashboards.sections import extents

text = TEXTS["options"]
show.heading(text["heading"], text["lead"])
values = scope().values
known = list(dict.fromkeys(row["method"] for row in answer("sensitivity", values).rows))
methods = choose_methods(known)
answered = answer("sensitivity", values, methods=methods)
rows = [row for row in answered.rows if row["generalization"] is not None]
if not rows:
    show.nothing("No option was swept over these experts, or none has scores yet.")
    st.stop()
board = answer("leaderboard", values).rows
pretrained = next((row for row in board if row["method"] == "pretrained"), None)
ceiling = max(row[role] for row in rows for role in ROLES)
key = "".join(
    f'<span><i style="border-color:{hue}"></i>{role.replace("_", "-")}</span>'
    for role, hue in ROLES.items()
)
show.house(f'<p class="key">{key}</p>')
lines = [
    [*line] for _, line in groupby(rows, lambda row: (row["method"], row["option"]))
]
for start in range(0, len(lines), 3):
    for column, line in zip(st.columns(3), lines[start : start + 3], strict=False):
        with column:
            name = f"{title(line[0]['method'])}: {line[0]['option']}"
            st.subheader(name, anchor=False)
            drawn = figures.sensitivity(line, pretrained, ceiling)
            show.figure(drawn, name, extents(line))
show.sources(sensitivity=answered)
