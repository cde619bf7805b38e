"""Tasks: every method on every task, as a heat map, a table, and small figures."""

import streamlit as st

from dashboards import heat, per_task
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import choose_methods, scope
from dashboards.captions import TEXTS
from dashboards.frame import Rows
from dashboards.palette import title

ROLES = {"held-in": "held_in", "generalization": "generalization"}
ACCURACY, GAIN, KEPT = "accuracy", "gain over pretrained", "share of the expert's"
TABLE, PROFILES = "table with ranks", "a figure for each method"
REFERENCES = ("pretrained", "individual")

text = TEXTS["tasks"]
show.heading(text["heading"], text["lead"])
values = scope().values
known = list(dict.fromkeys(row["method"] for row in answer("tasks", values).rows))
with st.container(horizontal=True):
    role = st.segmented_control(
        "Tasks", [*ROLES], default="held-in", key="role", required=True, wrap=True
    )
    measures = [ACCURACY, GAIN, KEPT] if role == "held-in" else [ACCURACY, GAIN]
    measure = st.segmented_control(
        "Shown",
        [*measures, TABLE, PROFILES],
        default=ACCURACY,
        key=f"measure-{role}",
        required=True,
        wrap=True,
    )
methods = choose_methods(known)
if measure == KEPT:
    answered = answer("normalized", values, methods=methods)
else:
    beside = REFERENCES if measure in {GAIN, PROFILES} else ()
    shown = [*methods, *beside] if methods else []
    answered = answer("tasks", values, methods=shown)
rows = [row for row in answered.rows if row.get("role", "held_in") == ROLES[role]]
if not rows:
    show.nothing("No method over these experts has been scored yet.")
    st.stop()
name = f"{measure} on {role} tasks"
sources = {"normalized" if measure == KEPT else "tasks": answered}
if measure == TABLE:
    experts: Rows = ()
    if role == "generalization" and not methods:
        sources["experts"] = answer("experts", values)
        experts = sources["experts"].rows
    show.house(f"<p>{text['table']}</p>{per_task.ranked_table(rows, experts)}")
elif measure == PROFILES:
    show.house(f"<p>{text['profiles']}</p>")
    order = per_task.by_difficulty(rows)
    drawn = dict.fromkeys(row["method"] for row in rows if row["kind"] != "reference")
    for place, method in zip(show.places(len(drawn)), drawn, strict=True):
        with place:
            st.subheader(title(method), anchor=False)
            show.figure(per_task.profile(rows, method, order), f"{method}, {role}")
elif measure == KEPT:
    show.figure(heat.kept_accuracy(rows), name, TEXTS["kept"]["lead"], wide=True)
else:
    show.figure(heat.accuracy_by_task(rows, gains=measure == GAIN), name, wide=True)
show.sources(**sources)
