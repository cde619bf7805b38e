"""Papers: published numbers beside ours."""

import streamlit as st

from dashboards import figures
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import scope
from dashboards.captions import TEXTS
from dashboards.parts import roles_of
from dashboards.tables import paper_table

chosen = scope()
text = TEXTS["papers"]
show.heading(text["heading"], text["lead"])
papers = answer("papers", chosen.values).rows
if not papers:
    show.nothing("No method of this experiment is in a paper whose numbers are here.")
    st.stop()
known = {f"{row['paper']}: {row['suite']}, {row['model']}": row for row in papers}
name = st.selectbox("Paper and its suite", [*known], key="paper", width=320)
paper = known[name]
values = {
    **chosen.values,
    "paper": paper["paper"],
    "paper_suite": paper["suite"],
    "paper_model": paper["model"],
}
if not paper["is_ours"]:
    st.info(
        f"The paper's suite is {paper['suite']}, and this experiment's is "
        f"{chosen.suite}: models and data differ, and only the order of the methods "
        "can be compared."
    )
against = answer("against_paper", values)
for role, column in zip(roles_of(against.rows), st.columns(2), strict=False):
    with column:
        drawn = figures.against_paper(against.rows, role)
        show.figure(drawn, f"Our gain against the paper's, {role}", text[role])
numbers = answer("paper_numbers", values)
show.house(paper_table(numbers.rows))
show.sources(against_paper=against, paper_numbers=numbers)
