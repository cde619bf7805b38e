"""Overview: what the experiment is, how far it is, and what its numbers say."""

import json
from html import escape

import streamlit as st

from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import scope
from dashboards.findings import findings
from dashboards.tables import facts_table, provenance_facts
from dashboards.text import duration

_ASKED = (
    "leaderboard",
    "held_in_vs_generalization",
    "scaling",
    "costs",
    "paired",
    "spent",
)

chosen = scope()
answers = {name: answer(name, chosen.values) for name in _ASKED}
provenance = answer("provenance", chosen.values)
facts = provenance.rows[0]

show.heading(chosen.experiment)
if chosen.description:
    show.house(f'<p class="description">{escape(chosen.description)}</p>')
spent = sum(row["seconds"] for row in answers["spent"].rows)
numbers = {
    "suite": chosen.suite,
    "experts": chosen.size,
    "held-in tasks": facts["held_in_tasks"],
    "generalization tasks": facts["generalization_tasks"],
    "merges": f"{chosen.cells:,}",
    "compute time": duration(spent) if spent else "none yet",
}
listed = "".join(
    f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>"
    for name, value in numbers.items()
)
show.house(f'<dl class="facts">{listed}</dl>')
if chosen.scored < chosen.cells:
    st.progress(
        chosen.scored / chosen.cells,
        f"{chosen.scored:,} of {chosen.cells:,} merges have scores; "
        "what follows is about them.",
    )
said = findings({name: answered.rows for name, answered in answers.items()})
if said:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in said)
    show.house(f'<ul class="findings">{items}</ul>')
show.sources(**answers)

show.heading("Provenance", "Which code, packages and machines made these numbers.")
show.house(facts_table(provenance_facts(facts)))
with st.expander("The experiment, defaults spelt out"):
    st.code(
        json.dumps(json.loads(facts["document"] or "{}"), indent=2), language="json"
    )
show.sources(provenance=provenance)
