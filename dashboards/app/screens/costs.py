"""Costs: what merges and their prerequisites took, and who shares what."""

import streamlit as st

from dashboards import bills
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import scope
from dashboards.captions import TEXTS
from dashboards.palette import ROLES
from dashboards.tables import prerequisites_table

values = scope().values
prerequisites = answer("prerequisites", values)
sharing = answer("sharing", values)
text = TEXTS["time"]
show.heading(text["heading"], text["lead"])
if not prerequisites.rows:
    show.nothing("No step that merges need has been recorded yet.")
else:
    show.house(prerequisites_table(prerequisites.rows))
    show.figure(
        bills.sharing(sharing.rows),
        "Who shares the cost of each prerequisite",
        text["sharing"],
        wide=True,
    )
    show.sources(prerequisites=prerequisites, sharing=sharing)

board = answer("leaderboard", values).rows
stages = answer("stages", values)
merged = [row["method"] for row in board if row["kind"] == "merged"]
if merged:
    show.heading(text["bars_heading"])
    drawn = bills.stages(stages.rows, merged)
    show.figure(drawn, "Amortized time of each method by stage", text["bars"])
    show.sources(stages=stages)

costs = answer("costs", values)
rows = [row for row in costs.rows if row["total_flops"]]
rows = [row for row in rows if row["generalization"] is not None]
if rows:
    text = TEXTS["costs"]
    show.heading(text["heading"], text["lead"])
    for role, column in zip(ROLES, st.columns(2), strict=True):
        with column:
            drawn = bills.cost_against_accuracy(rows, role)
            show.figure(drawn, f"Cost against accuracy, {role}", text[role])
    show.sources(costs=costs)
