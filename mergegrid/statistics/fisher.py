"""Diagonal Fisher information: how much each parameter matters to the predictions."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.errors import InputError, NonFiniteError
from mergegrid.likelihood import Positions
from mergegrid.models.linear_inputs import linear_weights
from mergegrid.statistics.gram import count_tokens
from mergegrid.statistics.labels import LabelDraws, Variant, label_directions
from mergegrid.statistics.measuring import (
    Examples,
    batches,
    choose_examples,
    evaluation_mode,
)
from mergegrid.statistics.plain_attention import PlainAttention
from mergegrid.suites.examples import Batch

GRADIENT_ENTRIES = 1 << 28
"""At most so many entries of per-example gradients at a time (1 GiB in float32)."""


def diagonal_fisher(
    model: nn.Module,
    examples: Examples,
    *,
    variant: Variant = "sampled",
    limit: int | None = 1000,
    positions: Positions = "mean",
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """Measure the diagonal of the Fisher information matrix.

    Over n examples x, and with gradients squared for each of them by itself,

        exact      F = 1/n sum_x sum_y p(y|x) (d log p(y|x) / d parameter)^2
        sampled    F = 1/n sum_x (d log p(y|x) / d parameter)^2,  y drawn from p(y|x)
        empirical  F = 1/n sum_x (d log p(y|x) / d parameter)^2,  y the gold label

    The expectation of `sampled` is `exact`, which takes a backward pass for every label
    instead of one. `empirical` is no estimate of the Fisher information, but what the
    Realistic Evaluation paper's code computes. Where an answer has several positions,
    log p(y|x) is the mean or the sum over them, and `sampled` draws the label of each
    given the gold labels before it.

    Args:
        model: its `forward` takes a batch and gives log-probabilities [example,
            *position, label]; measured in evaluation mode. A sum over the uses of a
            tied parameter is squared, not each use.
        examples: the expert's own; `label` is used by `empirical` alone.
        variant: which labels gradients are taken for.
        limit: use at most so many examples, drawn at random; None for all.
        positions: whether the positions of an answer are averaged, as in training, or
            added up; with the mean, the information of an answer of L positions is
            1/L^2 of the sum's.
        seed: decides which examples and labels are drawn. The draw of an example's
            label depends on nothing else.
        batch_size: how many at a time; fewer if their gradients would not fit into
            1 GiB. The result does not depend on it.

    Returns:
        F for each parameter that requires gradients, of its shape, float32. Squares are
        taken in float32 or better and summed in float64.

    Raises:
        InputError: if no parameter requires gradients, or `exact` is asked for where an
            answer has several positions.
        NonFiniteError: if a gradient is NaN or infinite.

    Source:
        Matena and Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS
        2022, arXiv:2111.09832, Equation 3 and Section 3.
    """
    chosen = choose_examples(examples, limit=limit, seed=seed)
    draws = LabelDraws(seed, len(examples))
    parameters = _trainable(model)
    entries = sum(parameter.numel() for parameter in parameters.values())
    batch_size = max(1, min(batch_size, GRADIENT_ENTRIES // entries))
    totals = {
        name: torch.zeros_like(parameter, dtype=torch.float64)
        for name, parameter in parameters.items()
    }

    def squared_scores(inputs: Batch, draw: Tensor) -> dict[str, Tensor]:
        def log_probabilities(
            given: Mapping[str, Tensor],
        ) -> Float[Tensor, "*position label"]:
            batch = {name: tensor.unsqueeze(0) for name, tensor in inputs.items()}
            return functional_call(model, dict(given), (batch,)).squeeze(0)

        outputs, pull_back, *_ = vjp(log_probabilities, parameters)
        squares: dict[str, Tensor] = {}
        directions = label_directions(
            outputs.detach(),
            inputs,
            draw,
            variant,
            axes=inputs["label"].ndim,
            positions=positions,
        )
        for direction in directions:
            (scores,) = pull_back(direction)
            for name, score in scores.items():
                square = (score if score.dtype == torch.float64 else score.float()) ** 2
                squares[name] = squares[name] + square if name in squares else square
        return squares

    # Fused kernels for attention have no form for per-example gradients.
    with evaluation_mode(model) as device, PlainAttention():
        for indices, batch in batches(
            examples, chosen, batch_size=batch_size, device=device
        ):
            squares = vmap(squared_scores)(batch, draws.of(indices, batch))
            for name, total in totals.items():
                total.add_(squares[name].sum(dim=0))
    for name, total in totals.items():
        if not total.isfinite().all():
            raise NonFiniteError(f"Gradients of {name} are NaN or infinite.")
    return {name: (total / len(chosen)).float().cpu() for name, total in totals.items()}


def fisher_flops(
    model: nn.Module,
    examples: Examples,
    *,
    variant: Variant = "sampled",
    limit: int | None = 1000,
) -> tuple[int, float]:
    """Count the operations of `diagonal_fisher`, if all examples are like the first.

    Args:
        model: see `diagonal_fisher`.
        examples: see `diagonal_fisher`.
        variant: see `diagonal_fisher`.
        limit: see `diagonal_fisher`.

    Returns:
        The exact number, for each example one forward pass and for each of its labels
        one backward pass, one square and one sum, and that of the Realistic Evaluation
        paper's Table 3, 4 d_in^2 d_out for each token of each linear layer.
    """
    used = len(choose_examples(examples, limit=limit, seed=0))
    parameters = _trainable(model)
    entries = sum(parameter.numel() for parameter in parameters.values())
    with evaluation_mode(model) as device, PlainAttention():
        batch = {name: tensor.to(device) for name, tensor in examples[:1].items()}
        with FlopCounterMode(display=False) as forward:
            outputs = model(batch)
        with FlopCounterMode(display=False) as backward:
            torch.autograd.grad(
                outputs.flatten()[0],
                [p for p in model.parameters() if p.requires_grad],
                allow_unused=True,
            )
    passes = outputs.shape[-1] if variant == "exact" else 1
    for_each_label = backward.get_total_flops() + 2 * entries
    layers = linear_weights(model)
    paper = sum(
        4 * tokens * layers[name][1] ** 2 * layers[name][0]
        for name, tokens in count_tokens(model, examples).items()
    )
    exact = used * (forward.get_total_flops() + passes * for_each_label)
    return exact, float(used * paper)


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    parameters = {
        name: parameter.detach()
        for name, parameter in sorted(model.named_parameters())
        if parameter.requires_grad
    }
    if not parameters:
        raise InputError("No parameter of the model requires gradients.")
    return parameters
