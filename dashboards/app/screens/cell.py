"""A cell: its recipe, its scores, what it was made from, and how to make it again."""

import json
from html import escape

import streamlit as st
import yaml

from dashboards import standings, transductive
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.follow import follower
from dashboards.captions import TEXTS
from dashboards.palette import title
from dashboards.tables import costs_table, facts_table, lineage_table
from dashboards.text import glyph, percent

ROLES = {"held-in": "held_in", "generalization": "generalization"}

key = st.query_params.get("cell", "")
found = answer(
    "cell", {"cell": key, "experiment": st.query_params.get("experiment", "")}
)
if not found.rows:
    show.heading("No such cell" if key else "No cell chosen")
    st.write(f"There is no cell `{key}` here." if key else "Choose one under Cells.")
    st.stop()
cell = found.rows[0]
values = {"cell": key, "experiment": cell["experiment"]}

show.heading(f"{title(cell['method'])} of {cell['size']} experts")
show.house(
    f'<p class="description">{glyph(cell["method"])}'
    f"{escape(cell['swept'] or 'no option was swept')}</p>"
    f"{transductive.key(cell['method'])}"
)
numbers = {
    "experiment": escape(cell["experiment"]),
    "held-in, %": percent(cell["held_in"], cell["held_in_se"]),
    "generalization, %": percent(cell["generalization"], cell["generalization_se"]),
    "validation, %": percent(cell["validation"]),
    "options": "chosen on validation" if cell["is_chosen"] else "not chosen",
}
listed = "".join(
    f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in numbers.items()
)
show.house(f'<dl class="facts">{listed}</dl>')

show.heading(
    "Make it again",
    "The same model from the same artifacts, as a directory that loads:",
)
st.code(
    f"python -m flows export {key} OUT_DIR --root {follower().root}",
    language="shell",
    wrap_lines=True,
)
recipe = yaml.safe_dump(
    {
        "method": transductive.unmarked(cell["method"]),
        "options": json.loads(cell["options"]),
        "experts": cell["experts"],
        "seed": cell["seed"],
    },
    sort_keys=False,
)
show.heading("Recipe")
st.code(recipe, language="yaml")
st.download_button(
    "Download the recipe", recipe, f"{key}.yaml", "application/yaml", on_click="ignore"
)

text = TEXTS["cell"]
show.heading(text["heading"], text["lead"])
scores = answer("cell_scores", values)
if not scores.rows:
    st.info("This cell has not been scored yet.")
else:
    role = st.segmented_control(
        "Tasks", [*ROLES], default="held-in", key="role", required=True
    )
    rows = [
        row
        for row in scores.rows
        if row["role"] == ROLES[role] and row["split"] == "test"
    ]
    drawn = standings.by_task(rows, cell["method"])
    show.figure(drawn, f"Accuracy on {role} tasks")
    show.sources(cell_scores=scores)

show.heading(
    "Cost",
    "By itself; with its share of every step that others needed too; and if it had to "
    "pay for all of them.",
)
costs = answer("cell_costs", values)
show.house(costs_table(costs.rows))
show.sources(cell_costs=costs)

show.heading("Made from", "Every step that it needs, directly or not, with its key.")
lineage = answer("lineage", values)
show.house(lineage_table(lineage.rows))
show.sources(lineage=lineage)

show.heading("Provenance")
versions = json.loads(cell["versions"] or "{}")
show.house(
    facts_table(
        {
            "cell": key,
            "definition": cell["definition"],
            "method's version": cell["method_version"],
            "seed": cell["seed"],
            "nested sample": cell["sample"] or "none: all, or given",
            "recorded": cell["recorded_at"] or "not yet",
            "commit": f"{cell['git_commit'] or 'none: it was installed'}"
            + ", with changes that are not in it" * bool(cell["git_dirty"]),
            "machine": cell["device"] or "unknown",
            "packages": ", ".join(f"{name} {v}" for name, v in versions.items()),
        }
    )
)
show.sources(cell=found)
