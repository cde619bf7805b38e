"""Two methods: is one better than the other, and how sure is that?"""

import streamlit as st

from dashboards import pairs
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import scope
from dashboards.captions import TEXTS
from dashboards.palette import title
from dashboards.parts import roles_of

values = scope().values
text = TEXTS["bootstrap"]
show.heading(text["heading"], text["lead"])
compared = answer("bootstrap", values)
rows = compared.rows
if not rows:
    show.nothing("It takes two methods that were scored on the same tasks.")
    st.stop()

known: list[str] = list(dict.fromkeys(row["method"] for row in rows))
with st.container(horizontal=True):
    one = st.selectbox(
        "Method",
        known,
        format_func=title,
        key="one",
        bind="query-params",
        width=240,
    )
    other = st.selectbox(
        "against",
        [method for method in known if method != one],
        format_func=title,
        key="other",
        bind="query-params",
        width=240,
    )
replicates = answer("replicates", {**values, "one": one, "other": other})
shown = [row for row in rows if (row["method"], row["other"]) == (one, other)]
for row, column in zip(shown, st.columns(2), strict=False):
    with column:
        drawn = pairs.differences(
            [
                found["difference"]
                for found in replicates.rows
                if found["role"] == row["role"]
            ],
            row,
        )
        name = f"Difference, {row['role']}"
        show.figure(drawn, name, f"{pairs.said(row)} {text['pair']}")
show.sources(replicates=replicates)

show.heading("Every pair")
for role in roles_of(rows):
    drawn = pairs.ahead(rows, role)
    show.figure(drawn, f"How often each method is ahead, {role}", text[role], wide=True)
show.sources(bootstrap=compared)
