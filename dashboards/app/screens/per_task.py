"""Tasks: every method on every task, as a heat map."""

import streamlit as st

from dashboards import heat
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import choose_methods, scope
from dashboards.captions import TEXTS

ROLES = {"held-in": "held_in", "generalization": "generalization"}
ACCURACY, GAIN, KEPT = "accuracy", "gain over pretrained", "share of the expert's"

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
        measures,
        default=ACCURACY,
        key=f"measure-{role}",
        required=True,
        wrap=True,
    )
methods = choose_methods(known)
if measure == KEPT:
    answered = answer("normalized", values, methods=methods)
    drawn = heat.kept_accuracy(answered.rows) if answered.rows else None
    caption = TEXTS["kept"]["lead"]
else:
    shown = [*methods, "pretrained"] if methods else []
    answered = answer("tasks", values, methods=shown)
    rows = [row for row in answered.rows if row["role"] == ROLES[role]]
    drawn = heat.accuracy_by_task(rows, gains=measure == GAIN) if rows else None
    caption = ""
if drawn is None:
    show.nothing("No method over these experts has been scored yet.")
    st.stop()
show.figure(drawn, f"{measure} on {role} tasks", caption, wide=True)
show.sources(**{"normalized" if measure == KEPT else "tasks": answered})
