"""Learned: coefficients that were learned, how that went, and what it took."""

import streamlit as st

from dashboards import coefficients, learning
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import scope
from dashboards.captions import TEXTS
from dashboards.learned_sections import LEARNING, by_method, curve_figures
from dashboards.learned_tables import (
    budgets_table,
    learning_costs_table,
    spread_table,
)
from dashboards.palette import title
from dashboards.parts import roles_of

PARAMETERS, KINDS = "every parameter", "kinds of layers"

values = scope().values
learned = answer("coefficients", values)
text = TEXTS["learned_coefficients"]
show.heading(text["heading"], text["lead"] if learned.rows else text["missing"])
if learned.rows:
    of_methods = dict(by_method(learned.rows))
    with st.container(horizontal=True):
        shown = st.segmented_control(
            "Columns",
            [PARAMETERS, KINDS],
            default=PARAMETERS,
            key="columns",
            required=True,
        )
        picked = st.multiselect(
            "Methods",
            [*of_methods],
            format_func=title,
            default=[*of_methods],
            key="learned",
            placeholder="choose one",
        )
    extent = coefficients.extent_of(learned.rows)
    if shown == KINDS:
        show.house(f"<p>{text['kinds']}</p>")
    draw = coefficients.by_kind if shown == KINDS else coefficients.by_parameter
    count = 1 if shown == KINDS else 2
    for place, method in zip(show.places(len(picked), count), picked, strict=True):
        with place:
            st.subheader(title(method), anchor=False)
            name = f"Coefficients of {method}, {shown}"
            drawn = draw(of_methods[method], extent)
            show.figure(drawn, name, wide=shown == KINDS)
    drawn = coefficients.spread(learned.rows)
    show.figure(drawn, "How coefficients are spread", text["spread"])
    spread = answer("coefficient_spread", values)
    show.house(f'{spread_table(spread.rows)}<p class="key">{text["table"]}</p>')
    show.sources(coefficients=learned, coefficient_spread=spread)
else:
    show.sources(coefficients=learned)

went = answer("learning", values)
if went.rows:
    text = TEXTS["learning_curves"]
    show.heading(text["heading"], text["lead"])
    figures = curve_figures(went.rows)
    for place, (drawn, name, said) in zip(
        show.places(len(figures)), figures, strict=True
    ):
        with place:
            st.subheader(name, anchor=False)
            show.figure(drawn, name, said)
    show.sources(learning=went)

budgets = answer("budgets", values)
if any(row["labelled"] or row["unlabelled"] for row in budgets.rows):
    text = TEXTS["budgets"]
    show.heading(text["heading"], text["lead"])
    sweeps = answer("budget_curve", values)
    for place, role in zip(st.columns(2), roles_of(budgets.rows), strict=False):
        with place:
            drawn = learning.against_labels(budgets.rows, sweeps.rows, role)
            show.figure(drawn, f"Accuracy against labels, {role}", text[role])
    show.house(budgets_table(budgets.rows))
    show.sources(budgets=budgets, budget_curve=sweeps)

costs = answer("learning_costs", values)
if any(row["stage"] in LEARNING for row in costs.rows):
    text = TEXTS["learning_costs"]
    show.heading(text["heading"], text["lead"])
    show.house(learning_costs_table(costs.rows))
    show.sources(learning_costs=costs)
