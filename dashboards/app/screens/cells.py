"""Cells: every merge of the grid; one that is chosen has a page of its own."""

import pandas as pd
import streamlit as st

from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.menu import MENU
from dashboards.app.scope import choose_methods, scope
from dashboards.palette import title

PERCENTS = (
    "validation",
    "held_in",
    "held_in_se",
    "generalization",
    "generalization_se",
)

chosen = scope()
show.heading(
    "Every merge",
    "Choose a row to see the cell's recipe, what it was made from, and how to make it "
    "again. Test accuracies in percent; the options with a mark were chosen on "
    "held-in validation.",
)
answered = answer("cells", chosen.values)
if not answered.rows:
    show.nothing("The grid's cells are not known yet.")
    st.stop()
with st.container(horizontal=True):
    only_these = st.toggle("Only these experts", value=True, key="only_these")
    only_chosen = st.toggle("Only chosen options", key="only_chosen")
methods = choose_methods(sorted({row["method"] for row in answered.rows}))
rows = [
    {**row, "method": title(row["method"])}
    | {name: 100 * row[name] for name in PERCENTS if row[name] is not None}
    for row in answered.rows
    if (row["subset"] == chosen.subset or not only_these)
    and (row["is_chosen"] or not only_chosen)
    and (row["method"] in methods or not methods)
]
st.caption(f"{len(rows):,} of {len(answered.tuples):,} cells")
picked = st.dataframe(
    pd.DataFrame(rows, columns=answered.columns),
    hide_index=True,
    key="cells",
    on_select="rerun",
    selection_mode="single-row",
    height=560,
    column_order=[
        "method",
        "options",
        "size",
        "sample",
        *PERCENTS,
        "is_chosen",
        "cell",
    ],
    column_config={
        "options": st.column_config.Column(width="medium"),
        "size": "experts",
        "validation": st.column_config.NumberColumn("validation, %", format="%.1f"),
        "held_in": st.column_config.NumberColumn("held-in, %", format="%.1f"),
        "held_in_se": st.column_config.NumberColumn("± s.e.", format="%.1f"),
        "generalization": st.column_config.NumberColumn(
            "generalization, %", format="%.1f"
        ),
        "generalization_se": st.column_config.NumberColumn("± s.e. ", format="%.1f"),
        "is_chosen": st.column_config.CheckboxColumn("chosen"),
    },
)
for index in picked["selection"]["rows"]:
    entry = next(entry for entry in MENU if entry.name == "cell")
    st.switch_page(
        entry.file,
        query_params={**st.query_params.to_dict(), "cell": rows[index]["cell"]},
    )
show.sources(cells=answered)
