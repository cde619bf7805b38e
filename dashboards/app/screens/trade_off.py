"""Held-in accuracy against generalization, the Pareto front and the correlation."""

import streamlit as st

from dashboards import figures
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import choose_methods, scope
from dashboards.captions import TEXTS

text = TEXTS["trade_off"]
values = scope().values
everything = answer("held_in_vs_generalization", values)
rows = [row for row in everything.rows if row["generalization"] is not None]
merged = [row for row in rows if row["kind"] == "merged"]
said = ""
if merged:
    first = merged[0]
    said = figures.correlation(first["pearson_r"], first["pearson_p"], first["methods"])
show.heading(
    text["heading"], text["lead"].format(correlation=f"<b>{said}.</b>" if said else "")
)
if not merged:
    show.nothing("No merge over these experts has both kinds of scores yet.")
    st.stop()
methods = choose_methods([row["method"] for row in rows])
answered = answer("held_in_vs_generalization", values, methods=methods)
rows = [row for row in answered.rows if row["generalization"] is not None]
for column, references, caption in zip(
    st.columns(2), (False, True), ("near", "far"), strict=True
):
    with column:
        show.figure(
            figures.held_in_vs_generalization(rows, references=references),
            "Held-in against generalization accuracy"
            + (", with the models for reference" if references else ", merges"),
            text[caption],
        )
show.sources(held_in_vs_generalization=answered)
