"""What the pages are about: an experiment, and a set of experts that it merged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboards.app.answers import answer
from dashboards.app.follow import follower
from dashboards.palette import title

ALL_SUITES = "all suites"
_KEY = "scope"


@dataclass(frozen=True)
class Scope:
    """An experiment and a set of experts."""

    experiment: str
    """Its name."""

    description: str
    """What it asks."""

    suite: str
    """Its tasks and data."""

    cells: int
    """How many merges it consists of."""

    scored: int
    """How many of them have scores."""

    subset: int
    """Which set of experts, as the database numbers them."""

    size: int
    """How many experts they are."""

    experts: tuple[str, ...]
    """Which they are."""

    @property
    def values(self) -> dict[str, str | int]:
        """What questions' parameters stand for."""
        return {"experiment": self.experiment, "subset": self.subset}


def choose_scope(*, is_shown: bool) -> None:
    """Let the visitor choose; without results, say so and end the page.

    Args:
        is_shown: whether the page is about the scope; if not, what was chosen is only
            kept for the pages that are.
    """
    experiments = answer("experiments", {}).rows
    if not experiments:
        if is_shown:
            _say_empty()
            st.stop()
        return
    with st.container(horizontal=True, key="scope" if is_shown else "hidden-scope"):
        chosen = _choose_experiment(experiments)
        subset = _choose_subset(
            answer("subsets", {"experiment": chosen["experiment"]}).rows
        )
    st.session_state[_KEY] = Scope(
        experiment=chosen["experiment"],
        description=chosen["description"] or "",
        suite=chosen["suite"] or "",
        cells=chosen["cells"],
        scored=chosen["scored"],
        subset=subset["subset"] if subset else 1,
        size=subset["size"] if subset else 0,
        experts=tuple(subset["experts"]) if subset else (),
    )


def scope() -> Scope:
    """Give what was chosen.

    Returns:
        The scope of the page that is drawn.
    """
    return st.session_state[_KEY]


def choose_methods(known: Sequence[str]) -> list[str]:
    """Let the visitor choose some of the methods.

    Args:
        known: those that the page is about.

    Returns:
        The chosen ones; none where the page is about all.
    """
    return st.multiselect(
        "Methods",
        known,
        format_func=title,
        key="methods",
        bind="query-params",
        placeholder="all",
    )


def _choose_experiment(experiments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    suites = sorted({row["suite"] for row in experiments})
    suite = st.selectbox(
        "Suite", [ALL_SUITES, *suites], key="suite", bind="query-params", width=150
    )
    known = {
        row["experiment"]: row
        for row in experiments
        if suite in {ALL_SUITES, row["suite"]}
    }
    name = st.selectbox(
        "Experiment", [*known], key="experiment", bind="query-params", width=190
    )
    return known[name]


def _choose_subset(subsets: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    if not subsets:
        return None
    sizes = list(dict.fromkeys(row["size"] for row in subsets))
    size = st.selectbox(
        "Experts merged", sizes, key="size", bind="query-params", width=140
    )
    known = {_subset_name(row, subsets): row for row in subsets if row["size"] == size}
    if len(known) == 1:
        return next(iter(known.values()))
    name = st.selectbox(
        "Sample", [*known], key="sample", bind="query-params", width=170
    )
    return known[name]


def _subset_name(row: dict[str, Any], subsets: Sequence[dict[str, Any]]) -> str:
    alike = [
        other["subset"]
        for other in subsets
        if (other["size"], other["sample"]) == (row["size"], row["sample"])
    ]
    name = f"sample {row['sample']}" if row["sample"] else "given"
    return name if len(alike) == 1 else f"{name}, set {row['subset']}"


def _say_empty() -> None:
    st.header("No results yet", anchor=False)
    st.write(f"Nothing has been recorded at `{follower().root}` so far.")
    st.write("An experiment fills this page while it runs:")
    st.code(
        f"python -m flows run configs/experiments/glyphs.yaml --root {follower().root}",
        language="shell",
        wrap_lines=True,
    )
