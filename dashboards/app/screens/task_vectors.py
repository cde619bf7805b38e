"""Task vectors: how large, how redundant, how much at odds, and what masks select."""

import streamlit as st

from dashboards import interference
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import scope
from dashboards.captions import TEXTS
from dashboards.vector_sections import (
    MOST_VIOLINS,
    at_one_density,
    by_merged,
    chosen_shares,
)
from dashboards.violins import extent_of, violins

chosen = scope()
values = chosen.values
spread = answer("task_vectors", values)
conflicts = answer("conflicts", values)
pruned = answer("redundancy", values)

text = TEXTS["task_vectors"]
show.heading(text["heading"], text["lead"] if spread.rows else text["missing"])
if spread.rows:
    tasks = list(dict.fromkeys(row["task"] for row in spread.rows))
    picked = st.multiselect(
        "Experts",
        tasks,
        default=tasks[:MOST_VIOLINS],
        key="violins",
        placeholder="choose one",
    )
    shown = [row for row in spread.rows if row["task"] in picked]
    extent = extent_of(shown)
    for task in picked:
        st.subheader(task, anchor=False)
        drawn = violins([row for row in shown if row["task"] == task], extent)
        show.figure(drawn, f"Task vector of {task}, layer by layer", wide=True)
show.sources(task_vectors=spread)

if conflicts.rows:
    text = TEXTS["conflicts"]
    show.heading(text["heading"], text["lead"])
    sizes, densities = st.columns(2)
    if len({row["size"] for row in conflicts.rows}) > 1:
        with sizes:
            drawn = interference.conflicts_by_size(conflicts.rows)
            name = "Sign conflicts against the number of experts"
            show.figure(drawn, name, text["sizes"])
    here = [row for row in conflicts.rows if row["subset"] == chosen.subset]
    if here:
        with densities:
            drawn = interference.conflicts_by_density(here)
            name = "Sign conflicts against entries kept"
            show.figure(drawn, name, text["densities"])
    show.sources(conflicts=conflicts)

found = answer("magnitudes", values)
if found.rows:
    rows = at_one_density(found.rows)
    text = TEXTS["magnitudes"]
    show.heading(
        text["heading"], text["lead"].format(kept=f"{100 * rows[0]['density']:g}")
    )
    for grouping in interference.GROUPINGS:
        for column, measure in zip(st.columns(2), interference.MEASURES, strict=True):
            with column:
                drawn = interference.magnitudes(rows, grouping, measure)
                name = f"{interference.MEASURES[measure]} by {grouping}"
                show.figure(drawn, name, text[grouping])
    show.sources(magnitudes=found)

found = answer("agreement", values)
if found.rows:
    text = TEXTS["agreement"]
    show.heading(text["heading"], text["lead"])
    merged = by_merged(found.rows)
    ceiling = max(row["share"] for alike in merged for row in alike)
    for column, alike in zip(st.columns(2), merged, strict=False):
        merge_by = alike[0]["merge_by"]
        with column:
            drawn = interference.agreement(alike, ceiling)
            show.figure(drawn, f"Mask agreement, {merge_by}", text[merge_by])
    shares = answer("mask_shares", values)
    drawn = interference.mask_shares(
        chosen_shares(by_merged(shares.rows)[0]), answer("normalized", values).rows
    )
    show.figure(drawn, "What each task's mask selects", text["shares"], wide=True)
    show.sources(agreement=found, mask_shares=shares)

if len({row["density"] for row in pruned.rows}) > 1:
    text = TEXTS["redundancy"]
    show.heading(text["heading"], text["lead"])
    drawn = interference.redundancy(pruned.rows, answer("leaderboard", values).rows)
    show.figure(drawn, "Accuracy against entries kept", text["figure"])
    show.sources(redundancy=pruned)
