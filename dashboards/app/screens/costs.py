"""Costs: what merges and their prerequisites took, and who shares what."""

import streamlit as st

from dashboards import bills
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import scope
from dashboards.captions import TEXTS
from dashboards.parts import roles_of, scored
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
rows = [row for row in scored(costs) if row["total_flops"]]
if rows:
    text = TEXTS["costs"]
    show.heading(text["heading"], text["lead"])
    for role, column in zip(roles_of(rows), st.columns(2), strict=False):
        with column:
            drawn = bills.cost_against_accuracy(rows, role)
            show.figure(drawn, f"Cost against accuracy, {role}", text[role])
            drawn = bills.time_against_accuracy(rows, role)
            name = f"Time against accuracy, {role}"
            show.figure(drawn, name, text[f"{role}_seconds"])
    show.sources(costs=costs)

peaks = answer("memory_peaks", values)
if peaks.rows:
    text = TEXTS["memory"]
    show.heading(text["heading"], text["lead"])
    show.figure(bills.memory(peaks.rows), "Peak memory of each method", text["points"])
    show.sources(memory_peaks=peaks)
