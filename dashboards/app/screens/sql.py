"""SQL: any question, on a connection that can change nothing."""

import streamlit as st

from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.free import Freely, ask_freely
from mergegrid.errors import ResultsError

FOUND = "found"
EXAMPLE = """SELECT method, options, held_in, generalization
FROM leaderboard
WHERE subset = 1
ORDER BY held_in DESC"""

show.heading(
    "Ask in SQL",
    "DuckDB answers; nothing can be changed, and no other file be read. The same from "
    'a shell: <code>python -m flows sql "SELECT ..."</code>',
)
sql = st.text_area("Question", EXAMPLE, height=180, key="question")
if st.button("Ask", type="primary", key="ask"):
    try:
        st.session_state[FOUND] = ask_freely(sql)
    except ResultsError as error:
        st.session_state[FOUND] = str(error)
found = st.session_state.get(FOUND)
if isinstance(found, Freely):
    rows = found.answered.tuples
    st.caption(
        f"the first {len(rows):,} rows"
        if found.is_cut
        else f"{len(rows):,} row{'s' * (len(rows) != 1)}"
    )
    show.download(found.answered, "answer")
    st.dataframe(show.frame(found.answered), hide_index=True, key="answer")
elif found:
    st.error(found)
with st.expander("Tables and views, and what each of them answers"):
    st.dataframe(show.frame(answer("relations", {})), hide_index=True, key="relations")
