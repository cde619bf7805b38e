"""Accuracy against the number of experts."""

from html import escape

import streamlit as st

from dashboards import figures, growth
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import choose_methods, scope
from dashboards.captions import TEXTS
from dashboards.palette import color, title
from dashboards.parts import roles_of, scored
from dashboards.text import line_key

FIRST = "the first of each order"

text = TEXTS["sizes"]
show.heading(text["heading"], text["lead"])
values = scope().values
known = list(dict.fromkeys(row["method"] for row in answer("scaling", values).rows))
methods = choose_methods(known)
answered = answer("scaling", values, methods=methods)
rows = scored(answered)
if len({row["size"] for row in rows if row["kind"] != "reference"}) < 2:
    show.nothing("It takes two numbers of experts that were merged and scored.")
    st.stop()
places = st.columns(2) + st.columns(2)
for column, place in zip((*roles_of(rows), "normalized"), places, strict=False):
    with place:
        drawn = figures.scaling(rows, column)
        name = f"{figures.ACCURACIES[column]} against the number of experts"
        show.figure(drawn, name, text[column])
show.sources(scaling=answered)

grown = answer("incremental", values, methods=methods)
if not grown.rows:
    st.stop()
text = TEXTS["incremental"]
show.heading(text["heading"], text["lead"])
orders = {", ".join(row["merged_in"]): row["series"] for row in grown.rows}
choices = [FIRST, *orders] if len(orders) > 1 else [*orders]
chosen = st.selectbox("Tasks", choices, key="order", width=420)
panels = growth.panels(
    [row for row in grown.rows if chosen == FIRST or row["series"] == orders[chosen]]
)
drawn = dict.fromkeys(row["method"] for panel in panels for row in panel)
show.house(line_key({title(method): color(method) for method in drawn}))
for panel, place in zip(panels, show.places(len(panels)), strict=True):
    with place:
        st.subheader(panel[0]["task"], anchor=False)
        name = f"{panel[0]['task']} as experts are merged in, {panel[0]['series']}"
        show.figure(growth.incremental(panel), name, escape(growth.said(panel)))
show.sources(incremental=grown)
