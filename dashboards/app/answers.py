"""Answers for the pages, remembered until there is a new database."""

from collections.abc import Mapping, Sequence

import streamlit as st

from dashboards.app.follow import follower
from dashboards.questions import Answered, ask

VERSION = "version"
"""Where a session keeps the version of the database that its page shows."""


def answer(
    question: str, values: Mapping[str, str | int], *, methods: Sequence[str] = ()
) -> Answered:
    """Ask the results a question.

    Args:
        question: a key of `dashboards.questions.QUESTIONS`.
        values: what its parameters stand for.
        methods: the methods to ask about; none for all.

    Returns:
        The question as it was asked, with its answer.
    """
    where = (follower().root, str(st.session_state[VERSION]))
    return _answer(where, question, dict(values), tuple(methods))


@st.cache_data(show_spinner=False, max_entries=200)
def _answer(
    where: tuple[str, str],  # the key of what is remembered
    question: str,
    values: Mapping[str, str | int],
    methods: tuple[str, ...],
) -> Answered:
    del where
    return ask(follower().results, question, values, methods=methods)
