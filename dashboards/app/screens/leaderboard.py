"""Leaderboard: every method with the options that validation chose."""

from urllib.parse import urlencode

import streamlit as st

from dashboards import standings
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import choose_methods, scope
from dashboards.board import board
from dashboards.captions import TEXTS
from dashboards.parts import roles_of

chosen = scope()
text = TEXTS["leaderboard"]
known = [row["method"] for row in answer("leaderboard", chosen.values).rows]
if not known:
    show.heading("Leaderboard")
    show.nothing("No method over these experts has been scored yet.")
    st.stop()
show.heading(text["heading"].format(size=chosen.size), text["lead"])
methods = choose_methods(known)
answered = answer("leaderboard", chosen.values, methods=methods)
rows = [row for row in answered.rows if row["held_in"] is not None]
if not rows:
    show.nothing("No method over these experts has been scored yet.")
    st.stop()


def address(cell: str) -> str:
    """Give the address of a cell's page."""
    return f"cell?{urlencode({**st.query_params.to_dict(), 'cell': cell})}"


show.figure(
    standings.ranking(rows),
    "Held-in and generalization accuracy of every method",
    "Full points: held-in tasks. Hollow points: generalization tasks. Bars reach over "
    "one standard error of the finite test sets.",
)
show.house(f'{board(rows, address)}<p class="key">{text["key"]}</p>')
show.sources(leaderboard=answered)

paired = answer("paired", chosen.values, methods=methods)
if paired.rows:
    text = TEXTS["differences"]
    show.heading(text["heading"], text["lead"])
    for role, column in zip(roles_of(paired.rows), st.columns(2), strict=False):
        with column:
            drawn = standings.behind_best(paired.rows, role)
            show.figure(drawn, f"Differences to the best, {role}", text[role])
    show.sources(paired=paired)
