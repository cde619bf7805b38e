"""Storage: how much of the experts' accuracy is kept for how many bytes."""

import streamlit as st

from dashboards import stored
from dashboards.app import show
from dashboards.app.answers import answer
from dashboards.app.scope import scope
from dashboards.captions import TEXTS

text = TEXTS["storage"]
show.heading(text["heading"], text["lead"])
values = scope().values
storage = answer("storage", values)
sizes = answer("storage_by_size", values)
if any(row["kind"] == "per_task" for row in storage.rows):
    for place, column in zip(st.columns(2), stored.MEASURES, strict=True):
        with place:
            drawn = stored.storage_against_accuracy(storage.rows, column)
            name = f"Accuracy kept against storage, {stored.MEASURES[column]}"
            show.figure(drawn, name, text[column])
    if len({row["size"] for row in sizes.rows}) > 1:
        drawn = stored.storage_by_size(sizes.rows)
        show.figure(drawn, "Storage against the number of tasks", text["sizes"])
else:
    show.nothing("No method with a model for each task has been merged over these.")
show.sources(storage=storage, storage_by_size=sizes)
