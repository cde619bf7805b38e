"""Gradient descent on coefficients, which can be cut off and go on anywhere."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor, nn

from mergegrid.errors import InputError
from mergegrid.learning.coefficients import Coefficients, Parametrization
from mergegrid.learning.learned import Checkpoint, Look, State
from mergegrid.learning.merged_model import MergedModel
from mergegrid.suites.suite import Progress

Optimizer: TypeAlias = Annotated[
    Literal["adamw", "sgd"],
    Field(description="AdamW, or gradient descent with a momentum of .9"),
]
LearningRate: TypeAlias = Annotated[
    float, Field(gt=0, description="of the numbers that stand for coefficients")
]
WeightDecay: TypeAlias = Annotated[
    float, Field(ge=0, description="decoupled, towards coefficients of 0")
]
Updates: TypeAlias = Annotated[int, Field(ge=0, description="most updates")]
EvaluateEvery: TypeAlias = Annotated[
    int, Field(ge=1, description="updates between two looks at how it does")
]
Patience: TypeAlias = Annotated[
    int,
    Field(ge=1, description="looks without improvement before learning stops"),
]
Initial: TypeAlias = Annotated[
    float,
    Field(allow_inf_nan=False, description="every coefficient at the start"),
]
ExamplesPerTask: TypeAlias = Annotated[
    Annotated[int, Field(ge=1)] | None,
    Field(description="examples of each task that are used; None: all of the split"),
]

LossOnModel = Callable[[nn.Module], Float[Tensor, ""]]


@dataclass(frozen=True)
class Descent:
    """How coefficients go downhill."""

    optimizer: Optimizer
    learning_rate: float
    weight_decay: float
    steps: int
    evaluate_every: int
    patience: int | None
    """None: all updates are made, and the last coefficients are kept."""


@dataclass(frozen=True)
class Found:
    """Where descent ended."""

    coefficients: Coefficients
    steps: int
    history: tuple[Look, ...]


@dataclass(frozen=True)
class Seen:
    """What a look shows."""

    held_out: float | None = None
    labels: float | None = None


def descend(
    model: MergedModel,
    parametrization: Parametrization,
    initial: float,
    how: Descent,
    loss_of: Callable[[int], LossOnModel],
    look: Callable[[], Seen],
    *,
    checkpoint: Checkpoint,
    progress: Progress | None,
    node: str = "",
) -> Found:
    """Learn coefficients.

    Of early stopping: the coefficients with the least loss on held-out examples are
    kept, the first of equal ones, those at the start among them.

    Args:
        model: what is merged.
        parametrization: how coefficients follow from what is learned.
        initial: every coefficient at the start.
        how: optimizer, updates, stopping.
        loss_of: gives the loss of one update, by its number.
        look: tells how the model does as it is merged.
        checkpoint: where to go on from, and what is kept at every look.
        progress: told about every update.
        node: see `Look`.

    Returns:
        The coefficients, and how descent went.

    Raises:
        InputError: if the loss is not finite.
    """
    state = _State(parametrization.start(initial), how, checkpoint.load())
    history = state.looks(node)

    def consider(step: int, loss: float | None) -> None:
        model.merge(parametrization.coefficients(state.free).detach())
        seen = look()
        history.append(Look(node, step, loss, seen.held_out, seen.labels))
        state.consider(step, seen.held_out)
        checkpoint.save(state.kept(history))

    if not history:
        consider(0, None)
    since: list[float] = []
    while state.step < how.steps and not state.is_stopped:
        coefficients = parametrization.coefficients(state.free)
        loss, slope = model.gradient(coefficients.detach(), loss_of(state.step))
        if not math.isfinite(loss) or not bool(torch.isfinite(slope).all()):
            raise InputError(
                f"The loss became {loss} at update {state.step + 1}; lower the "
                f"learning_rate of {how.learning_rate}."
            )
        coefficients.backward(slope)
        state.update()
        parametrization.settle(state.free.data)
        since.append(loss)
        if state.step % how.evaluate_every == 0 or state.step == how.steps:
            consider(state.step, sum(since) / len(since))
            since.clear()
        if progress is not None:
            progress(state.step, how.steps)
    free = state.free.detach() if how.patience is None else state.best
    coefficients = parametrization.coefficients(free).clone()
    model.merge(coefficients)
    return Found(coefficients, state.step, tuple(history))


class _State:
    """The numbers that are learned, the optimizer's, and the best so far."""

    def __init__(
        self, start: Float64[Tensor, "rows expert"], how: Descent, kept: State | None
    ) -> None:
        self._how = how
        self._history = kept["history"] if kept else None
        self.free = (kept["free"] if kept else start).clone().requires_grad_()
        self.best = (kept["best"] if kept else start).clone()
        numbers = kept["numbers"].tolist() if kept else [0.0, math.inf, 0.0]
        self.step, self._best_loss, self._looks_since = (
            int(numbers[0]),
            numbers[1],
            int(numbers[2]),
        )
        self._optimizer = (
            torch.optim.AdamW(
                [self.free], lr=how.learning_rate, weight_decay=how.weight_decay
            )
            if how.optimizer == "adamw"
            else torch.optim.SGD(
                [self.free],
                lr=how.learning_rate,
                momentum=0.9,
                weight_decay=how.weight_decay,
            )
        )
        if kept:
            of_optimizer = {
                name.removeprefix("optimizer."): tensor.clone()
                for name, tensor in kept.items()
                if name.startswith("optimizer.")
            }
            if of_optimizer:
                self._optimizer.state[self.free] = of_optimizer

    @property
    def is_stopped(self) -> bool:
        patience = self._how.patience
        return patience is not None and self._looks_since >= patience

    def update(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1

    def consider(self, step: int, held_out: float | None) -> None:
        if held_out is None:
            return
        if step:
            self._looks_since += 1
        if held_out < self._best_loss:
            self._best_loss, self._looks_since = held_out, 0
            self.best = self.free.detach().clone()

    def looks(self, node: str) -> list[Look]:
        if self._history is None:
            return []
        rows = self._history.tolist()
        return [Look(node, int(step), *map(_number, rest)) for step, *rest in rows]

    def kept(self, history: Sequence[Look]) -> State:
        looks = [
            [float(look.step), *map(_nan, (look.loss, look.held_out, look.labels))]
            for look in history
        ]
        numbers = [float(self.step), self._best_loss, float(self._looks_since)]
        found: Mapping[str, Tensor] = self._optimizer.state.get(self.free, {})
        return {
            "free": self.free.detach().clone(),
            "best": self.best,
            "numbers": torch.tensor(numbers, dtype=torch.float64),
            "history": torch.tensor(looks, dtype=torch.float64),
            **{f"optimizer.{name}": tensor for name, tensor in found.items()},
        }


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
