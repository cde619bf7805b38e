"""Accuracy against the number of experts."""

import streamlit as st

from dashboards import figures
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import choose_methods, scope
from dashboards.captions import TEXTS

text = TEXTS["sizes"]
show.heading(text["heading"], text["lead"])
values = scope().values
known = list(dict.fromkeys(row["method"] for row in answer("scaling", values).rows))
methods = choose_methods(known)
answered = answer("scaling", values, methods=methods)
rows = [row for row in answered.rows if row["generalization"] is not None]
if len({row["size"] for row in rows}) < 2:
    show.nothing("It takes two numbers of experts that were merged and scored.")
    st.stop()
places = st.columns(2) + st.columns(2)
for column, place in zip(
    ("held_in", "generalization", "normalized"), places, strict=False
):
    with place:
        drawn = figures.scaling(rows, column)
        name = f"{figures.ACCURACIES[column]} against the number of experts"
        show.figure(drawn, name, text[column])
show.sources(scaling=answered)
