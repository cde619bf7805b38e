"""The dashboard: what every page has in common, and which pages there are."""

from pathlib import Path

import streamlit as st

from dashboards.app.answers import VERSION, answer
from dashboards.app.follow import follower
from dashboards.app.menu import MENU
from dashboards.app.scope import choose_scope, scope
from dashboards.app.show import house
from dashboards.app.style import SIDEBAR, dress, is_dark
from dashboards.transductive import key
from mergegrid.errors import ResultsError

ICON = Path(__file__).with_name("icon.svg")
SECONDS = 2.0  # between two looks at what has changed
ABOUT = "The results of merge grids. Nothing here can be changed."


@st.fragment(run_every=SECONDS)
def follow() -> None:
    """Draw the page anew when there is a new database, or the visitor wants it dark."""
    if (follower().version(), is_dark()) != shown:
        st.rerun()
    st.caption(f"`{follower().root}`")
    seen = follower().seen
    if seen is not None:
        st.caption(f"read at {seen.astimezone():%H:%M:%S}, followed live")
    if follower().problem:
        st.caption(f"These results are not up to date. {follower().problem}")


page = st.navigation(
    [
        st.Page(
            entry.file,
            title=entry.title,
            url_path=entry.name,
            default=entry is MENU[0],
            visibility="visible" if entry.is_listed else "hidden",
        )
        for entry in MENU
    ],
    expanded=True,
)
st.set_page_config(
    page_title=f"{page.title} - mergegrid",
    page_icon=ICON,
    layout="wide",
    initial_sidebar_state=SIDEBAR,
    menu_items={"About": ABOUT},
)
st.logo(ICON, size="large")
shown = (follower().version(), is_dark())
st.session_state[VERSION] = shown[0]
dress()
with st.sidebar:
    follow()
entry = next(entry for entry in MENU if entry.title == page.title)
try:
    choose_scope(is_shown=entry.is_scoped)
    if entry.is_scoped and (marked := answer("transductive", scope().values).rows):
        house(key(marked[0]["method"]))
    page.run()
except ResultsError as error:
    st.error(str(error))
