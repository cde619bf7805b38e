"""Training: pretrained models, experts and multitask models, all by the same loop."""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from pydantic import Field
from torch import Tensor, nn

from mergegrid.documents import Section
from mergegrid.errors import InputError
from mergegrid.evaluation import Tally
from mergegrid.likelihood import Positions, log_likelihood
from mergegrid.randomness import Stream
from mergegrid.suites.examples import Batch, Examples
from mergegrid.suites.suite import Progress

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


class TrainingSettings(Section):
    """How a model is trained: AdamW, a warm-up, a cosine, early stopping."""

    steps: int = Field(default=1000, ge=0, description="most updates")
    batch_size: int = Field(default=128, ge=1, description="examples per update")
    learning_rate: float = Field(default=2e-5, gt=0, description="peak learning rate")
    weight_decay: float = Field(
        default=0.0, ge=0, description="decay of parameters with two or more axes"
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="updates until the learning rate is at its peak"
    )
    final_learning_rate: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="end of the cosine, as a fraction of the peak",
    )
    clip_norm: float = Field(
        default=1.0, gt=0, description="L2 norm to which gradients are clipped"
    )
    evaluate_every: int = Field(
        default=50, ge=1, description="updates between looks at the validation split"
    )
    patience: int = Field(
        default=5, ge=1, description="looks without improvement before training stops"
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        description="parts in which an update's examples go through the model",
    )
    positions: Positions = Field(
        default="mean",
        description="whether the loss of an answer is the mean or the sum over its "
        "positions",
    )

    def learning_rate_at(self, step: int) -> float:
        """Give the learning rate of one update.

        Args:
            step: the update, from 0.

        Returns:
            The learning rate: linear up to the peak, then along half a cosine.
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        fraction = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = (1 + math.cos(math.pi * fraction)) / 2
        floor = self.final_learning_rate
        return self.learning_rate * (floor + (1 - floor) * cosine)


@dataclass(frozen=True)
class Checkpoint:
    """One look at a model while it was trained."""

    step: int
    """Updates made so far."""

    loss: float | None
    """Mean training loss since the look before; None before any update."""

    validation: float
    """Score on the validation split, in [0, 1]."""


@dataclass(frozen=True)
class TrainingRecord:
    """What training did, and what it took."""

    steps: int
    """Updates made."""

    best_step: int
    """The update after which the parameters were kept: the first of the best on
    validation."""

    examples: int
    """Examples seen in all updates, repetitions included."""

    history: tuple[Checkpoint, ...]
    """Every look at the validation split, the first before any update."""


def train(
    model: nn.Module,
    examples: Examples,
    validate: Callable[[nn.Module], Tally],
    settings: TrainingSettings,
    *,
    seed: int,
    progress: Progress | None = None,
) -> TrainingRecord:
    """Train the parameters that require gradients, in place.

    Every epoch is a new order of all examples. The parameters that did best on
    validation are kept. With the same seed, device and number of threads, the outcome
    is the same. On a GPU, training uses bfloat16 where that is safe (mixed precision);
    the model stays on the device that `accelerate` chose.

    Args:
        model: gives log-probabilities [example, *position, label] for a batch.
        examples: what to train on.
        validate: scores the model, to stop early by.
        settings: how.
        seed: decides the order of the examples.
        progress: told about every update.

    Returns:
        What was done; the model is left in evaluation mode.

    Raises:
        InputError: if there are no examples, or the loss is not finite.
    """
    if not len(examples):
        raise InputError("Training needs examples to train on.")
    on_gpu = torch.cuda.is_available()
    accelerator = Accelerator(mixed_precision="bf16" if on_gpu else "no")
    prepared, optimizer = accelerator.prepare(model, _optimizer(model, settings))
    batches = _Batches(examples, settings.batch_size, seed)
    dropout = Stream(seed) if _drops(model) else None

    best = _Best(model, validate(model).value)
    if math.isnan(best.validation):
        raise InputError("Training needs examples to validate on.")
    history = [Checkpoint(0, None, best.validation)]
    losses: list[Tensor] = []
    step = 0
    model.train()
    for step in range(1, settings.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step - 1)
        batch = batches.next(accelerator.device)
        losses.append(
            _update(accelerator, prepared, optimizer, batch, settings, dropout)
        )
        if step % settings.evaluate_every == 0 or step == settings.steps:
            mean = torch.stack(losses).mean().item()
            if not math.isfinite(mean):
                raise InputError(
                    f"The loss became {mean} before step {step}; lower the learning "
                    f"rate of {settings.learning_rate}."
                )
            losses.clear()
            history.append(Checkpoint(step, mean, validate(model).value))
            best.consider(step, history[-1].validation)
        if progress is not None:
            progress(step, settings.steps)
        if best.looks_since >= settings.patience:
            break
    best.restore()
    model.eval()
    return TrainingRecord(
        steps=step,
        best_step=best.step,
        examples=step * settings.batch_size,
        history=tuple(history),
    )


def _optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim > 1]
    others = [p for p in trained if p.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )


def _update(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: AcceleratedOptimizer,
    batch: Batch,
    settings: TrainingSettings,
    dropout: Stream | None,
) -> Tensor:
    total = torch.zeros((), device=accelerator.device)
    for part in _parts(batch, settings.accumulate):
        share = len(part["label"]) / len(batch["label"])
        drawing = nullcontext() if dropout is None else dropout.drawing()
        with drawing, accelerator.autocast():
            log_probabilities = model(part)
        likelihoods = log_likelihood(
            log_probabilities.float(), part["label"], settings.positions
        )
        loss = -likelihoods.mean() * share
        accelerator.backward(loss)
        total += loss.detach()
    accelerator.clip_grad_norm_(model.parameters(), settings.clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return total


def _drops(model: nn.Module) -> bool:
    """Tell whether activations are dropped at random while a model is trained."""
    return any(
        isinstance(value, float) and value > 0
        for module in model.modules()
        for name, value in vars(module).items()
        if "drop" in name or (name == "p" and isinstance(module, DROPOUT))
    )


def _parts(batch: Batch, number: int) -> Iterator[Batch]:
    """Divide a batch into parts of about one size."""
    for indices in torch.arange(len(batch["label"])).chunk(number):
        first, last = indices[0], indices[-1] + 1
        yield {name: tensor[first:last] for name, tensor in batch.items()}


class _Batches:
    """Batches of examples in random order, epoch after epoch."""

    def __init__(self, examples: Examples, batch_size: int, seed: int) -> None:
        self._examples = examples
        self._batch_size = batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._queue = torch.zeros(0, dtype=torch.int64)

    def next(self, device: torch.device) -> Batch:
        while len(self._queue) < self._batch_size:
            epoch = torch.randperm(len(self._examples), generator=self._generator)
            self._queue = torch.cat([self._queue, epoch])
        indices = self._queue[: self._batch_size]
        self._queue = self._queue[self._batch_size :]
        batch = self._examples[indices]
        return {name: tensor.to(device) for name, tensor in batch.items()}


class _Best:
    """The parameters that did best so far, and how long ago that was."""

    def __init__(self, model: nn.Module, validation: float) -> None:
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self.step = 0
        self.validation = validation
        self.looks_since = 0
        self._kept = self._copy()

    def consider(self, step: int, validation: float) -> None:
        self.looks_since += 1
        if validation > self.validation:
            self.step, self.validation, self.looks_since = step, validation, 0
            self._kept = self._copy()

    def restore(self) -> None:
        with torch.no_grad():
            for parameter, kept in zip(self._trained, self._kept, strict=True):
                parameter.copy_(kept)

    def _copy(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self._trained]
