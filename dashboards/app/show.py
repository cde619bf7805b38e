"""What pages are made of: texts, tables, and figures with their SQL and their data."""

import csv
import io

import pandas as pd
import streamlit as st
from plotly import graph_objects as go
from streamlit.delta_generator import DeltaGenerator

from dashboards.app.scope import scope
from dashboards.app.style import is_dark
from dashboards.questions import Answered
from dashboards.shades import put_on_dark, text_on_dark

_CONFIG = {"displayModeBar": False}


def heading(title: str, lead: str = "") -> None:
    """Begin a page or a section of one.

    Args:
        title: what it is called.
        lead: HTML on how to read it.
    """
    st.header(title, anchor=False)
    if lead:
        house(f"<p>{lead}</p>")


def house(html: str) -> None:
    """Show HTML in the house style.

    Args:
        html: written for a white page.
    """
    shown = text_on_dark(html) if is_dark() else html
    st.html(f'<div class="house">{shown}</div>')


def figure(
    drawn: go.Figure, name: str, caption: str = "", *, wide: bool = False
) -> None:
    """Show a figure.

    Args:
        drawn: the figure, for a white page.
        name: what it shows, for those who cannot see it, and unlike the page's others.
        caption: HTML to go below it.
        wide: whether it scrolls sideways on a narrow screen instead of shrinking.
    """
    with st.container(key=f"{'wide' if wide else 'plot'}-{_slug(name)}"):
        st.plotly_chart(
            put_on_dark(drawn) if is_dark() else drawn,
            theme=None,
            key=f"figure-{_slug(name)}",
            config=_CONFIG,
            alt=name,
        )
    if caption:
        house(f"<figcaption>{caption}</figcaption>")


def places(count: int, across: int = 3) -> list[DeltaGenerator]:
    """Find places for small figures, a few in a row.

    Args:
        count: how many there are.
        across: how many are beside one another.

    Returns:
        Containers.
    """
    found: list[DeltaGenerator] = []
    while len(found) < count:
        found += st.columns(across)
    return found[:count]


def sources(**answers: Answered) -> None:
    """Offer the SQL and the data that something above was drawn from.

    Args:
        answers: name of a file to the question with its answer.
    """
    with st.expander("SQL and data"):
        names = [name.replace("_", " ") for name in answers]
        tabs = st.tabs(names) if len(names) > 1 else [st.container()]
        for tab, (name, answered) in zip(tabs, answers.items(), strict=True):
            with tab:
                download(answered, name)  # above what is drawn late and moves it
                st.code(answered.sql, language="sql", wrap_lines=True)
                st.dataframe(frame(answered), hide_index=True)


def frame(answered: Answered) -> pd.DataFrame:
    """Turn an answer into what Streamlit's tables show.

    Args:
        answered: the answer.

    Returns:
        Its rows.
    """
    return pd.DataFrame(answered.tuples, columns=answered.columns)


def download(answered: Answered, name: str) -> None:
    """Offer an answer as a file.

    Args:
        answered: the answer.
        name: of the file.
    """

    def written() -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(answered.columns)
        writer.writerows(answered.tuples)
        return text.getvalue()

    st.download_button(
        "Download as CSV",
        written,
        f"{name}.csv",
        "text/csv",
        key=f"download-{name}",
        on_click="ignore",
    )


def nothing(text: str) -> None:
    """Say that there is nothing to show yet.

    Args:
        text: what is missing; how far the grid is, is added.
    """
    chosen = scope()
    st.info(f"{text} {chosen.scored:,} of {chosen.cells:,} merges have scores so far.")


def _slug(name: str) -> str:
    # AdaMerging++ is not AdaMerging.
    words = "".join(c if c.isalnum() else " " for c in name.replace("+", " plus "))
    return "-".join(words.lower().split())
