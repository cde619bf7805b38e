"""Texts: questions with their answers, which a language family turns into tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Text:
    """A question and its answers."""

    prompt: str
    """What the model is given, the template filled in."""

    answers: tuple[str, ...]
    """Acceptable answers; the first is what a model is trained to give."""

    choices: tuple[str, ...] = ()
    """What the answer is chosen among, `answers[0]` being one of them; empty where it
    is free text."""

    template: int = 0
    """Which of the task's prompt templates it was made with."""

    separator: str | None = None
    """What stands between the question and its answers, which then continue it and
    have no end; None for what a model's architecture says of both."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Text":
        """Read what was stored.

        Args:
            row: the fields by name, lists in place of tuples; `separator` need not be
                there.

        Returns:
            The question.
        """
        return cls(
            row["prompt"],
            tuple(row["answers"]),
            tuple(row["choices"]),
            row["template"],
            row.get("separator"),
        )


class Texts:
    """Questions in a fixed order.

    Args:
        texts: the questions.
    """

    def __init__(self, texts: Sequence[Text]) -> None:
        self._texts = tuple(texts)

    def __len__(self) -> int:
        """Count the questions."""
        return len(self._texts)

    def __getitem__(self, indices: Tensor | slice) -> tuple[Text, ...]:
        """Give some of the questions, in the order asked for."""
        if isinstance(indices, slice):
            return self._texts[indices]
        return tuple(self._texts[index] for index in indices.tolist())
