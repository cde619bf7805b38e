"""Options that are chosen by what other merges of the same experts score with them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """Where the value "best" of an option comes from: scores on held-in validation."""

    method: str
    """The method whose cells over the same experts are compared."""

    option: str
    """The option of theirs whose value is taken over."""

    per_task: bool = False
    """Whether every task chooses for itself, so that the value is one for each."""

    alike: tuple[str, ...] = ()
    """Options in which those cells agree with the one that chooses."""
