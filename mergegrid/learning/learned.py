"""What learning has found, and how it went."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from mergegrid.learning.coefficients import Coefficients

State: TypeAlias = dict[str, Tensor]
"""Everything that descent goes on from, by name."""


Hold: TypeAlias = Literal["held", "offloaded", "streamed"]
"""Where task vectors are meanwhile: in memory where the model is; in main memory, from
where they are brought to the model one tensor at a time; or nowhere: they are made from
the experts whenever they are needed. The coefficients do not depend on it."""


@dataclass(frozen=True)
class Look:
    """One look at descent while it went on."""

    node: str
    """The part of the tree that was learned; empty if there is no tree."""

    step: int
    """Updates made so far."""

    loss: float | None
    """Mean loss of the updates since the look before; None before any."""

    held_out: float | None
    """Mean loss on examples that were held out; None if none were."""

    labels: float | None
    """Over tasks, the least of how many labels the model answers with, as a fraction of
    how many it did at the start; see `effective_labels`. None where it is not asked."""


@dataclass(frozen=True)
class Learned:
    """Coefficients, and what they took."""

    coefficients: Coefficients
    """For every tensor and expert."""

    history: tuple[Look, ...]
    """Every look."""

    steps: int
    """Updates made."""

    examples: int
    """Examples that gradients were taken of, counting repetitions."""

    looked_at: int
    """Examples that only went forward through the model, to look how it does."""

    labelled: int = 0
    """Different examples whose labels were used."""

    unlabelled: int = 0
    """Different examples of which the inputs alone were used."""

    trained: int = 0
    """Numbers that were learned."""

    together: int = 0
    """Most task vectors that were multiplied by coefficients at a time."""

    collapsed: tuple[str, ...] = ()
    """Tasks that the model answers with few labels where it gave many at the start."""


@runtime_checkable
class Checkpoint(Protocol):
    """Where descent keeps what it would go on from if it were cut off."""

    def load(self) -> State | None:
        """Give what was kept last, if anything."""
        ...

    def save(self, state: State) -> None:
        """Keep this instead.

        Args:
            state: tensors by name.
        """
        ...


class NoCheckpoint:
    """Descent that starts anew if it is cut off."""

    def load(self) -> None:
        """Give nothing."""

    def save(self, state: State) -> None:
        """Keep nothing."""


class Part:
    """A part of what is learned one after the other, with a checkpoint of its own.

    Args:
        whole: keeps all parts.
        name: of this part.
    """

    def __init__(self, whole: Checkpoint, name: str) -> None:
        self._whole = whole
        self._prefix = f"{name}/"

    def load(self) -> State | None:
        """Give what was kept of this part."""
        kept = self._whole.load() or {}
        found = {
            name.removeprefix(self._prefix): tensor
            for name, tensor in kept.items()
            if name.startswith(self._prefix)
        }
        return found or None

    def save(self, state: State) -> None:
        """Keep this of this part, and the other parts as they are."""
        kept = self._whole.load() or {}
        others = {k: v for k, v in kept.items() if not k.startswith(self._prefix)}
        named = {f"{self._prefix}{name}": tensor for name, tensor in state.items()}
        self._whole.save(others | named)


DataKind: TypeAlias = Literal["labelled", "unlabelled"]
"""Whether labels are used, or inputs alone."""


@dataclass(frozen=True)
class Learning:
    """How a method finds its coefficients: part of its record."""

    learn: Callable[..., Learned]
    """The function: takes a `MergedModel`, a seed, a `Checkpoint` and a `Progress` or
    None; its keyword-only arguments are options of the method, `split` among them: the
    examples that it learns from."""

    data: DataKind
    """What it learns from."""

    task_vectors: Callable[..., Tensor]
    """What coefficients multiply, [expert, *shape]; takes tensors by name, as methods
    do."""

    is_lean: bool = False
    """Whether it holds what it needs of the task vectors itself, a few at a time, so
    that they are better made when it asks for them than held all together."""
