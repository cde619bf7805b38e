"""Sensitivity: how much each option of each method matters."""

from collections.abc import Callable
from itertools import groupby

import streamlit as st
from plotly import graph_objects as go

from dashboards import figures, sweeps
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import choose_methods, scope
from dashboards.captions import TEXTS
from dashboards.frame import Rows
from dashboards.palette import ROLES, title
from dashboards.parts import roles_of, scored
from dashboards.questions import Answered
from dashboards.sections import extents
from dashboards.tables import useless_weights_table
from dashboards.text import line_key

text = TEXTS["options"]
show.heading(text["heading"], text["lead"])
values = scope().values
known = list(dict.fromkeys(row["method"] for row in answer("sensitivity", values).rows))
methods = choose_methods(known)
answered = answer("sensitivity", values, methods=methods)
rows = scored(answered)
if not rows:
    show.nothing("No option was swept over these experts, or none has scores yet.")
    st.stop()
board = answer("leaderboard", values).rows
pretrained = next((row for row in board if row["method"] == "pretrained"), None)
roles = roles_of(rows)
ceiling = max(row[role] for row in rows for role in roles if row[role] is not None)
show.house(line_key({role.replace("_", "-"): ROLES[role] for role in roles}))
lines = [
    [*line] for _, line in groupby(rows, lambda row: (row["method"], row["option"]))
]
for place, line in zip(show.places(len(lines)), lines, strict=True):
    with place:
        name = f"{title(line[0]['method'])}: {line[0]['option']}"
        st.subheader(name, anchor=False)
        drawn = figures.sensitivity(line, pretrained, ceiling)
        show.figure(drawn, name, extents(line))
fixed = [
    row
    for row in board
    if row["kind"] == "merged" and not row["options"] and not methods
]
for role, column in zip(roles, st.columns(2), strict=False):
    with column:
        drawn = sweeps.indexed(rows, fixed, role)
        show.figure(drawn, f"Accuracy by index of the option, {role}", text[role])
show.sources(sensitivity=answered)


def study(
    name: str, draw: Callable[[Rows, str], go.Figure], along: str
) -> Answered | None:
    """Show a section about one option, if it takes two values or more."""
    found = answer(name, values, methods=methods)
    shown = scored(found)
    if len({row[along] for row in shown}) < 2:
        return None
    show.heading(TEXTS[name]["heading"], TEXTS[name]["lead"])
    present = roles_of(shown)
    for role, column in zip(present, st.columns(2), strict=False):
        with column:
            show.figure(draw(shown, role), f"{name}, {role}", TEXTS[name][role])
    return found


if found := study("scale_sweeps", sweeps.scales, "method"):
    show.sources(scale_sweeps=found)
if found := study("selections", sweeps.selection, "density"):
    show.sources(selections=found)
if found := study("consensus_thresholds", sweeps.thresholds, "agreement"):
    few = answer("useless_weights", values)
    if few.rows:
        st.subheader(TEXTS["consensus_thresholds"]["few"], anchor=False)
        show.house(useless_weights_table(few.rows))
    show.sources(consensus_thresholds=found, useless_weights=few)
