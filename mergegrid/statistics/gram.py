"""Gram matrices of the inputs of linear layers, for RegMean and MaTS."""

import logging
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.errors import NonFiniteError
from mergegrid.models.linear_inputs import linear_weights, record_linear_inputs
from mergegrid.statistics.measuring import (
    Examples,
    batches,
    choose_examples,
    evaluation_mode,
)
from mergegrid.suites.examples import Batch

logger = logging.getLogger("mergegrid")


@runtime_checkable
class MasksTokens(Protocol):
    """A model that knows which of its tokens are padding."""

    def token_mask(self, name: str, batch: Batch) -> Tensor | None:
        """Tell padding from tokens.

        Args:
            name: a linear layer's weight.
            batch: what the model was given.

        Returns:
            True for the tokens among the layer's inputs, of the inputs' shape without
            the last axis; None if none of them is padding.
        """
        ...


def gram_matrices(
    model: nn.Module,
    examples: Examples,
    *,
    limit: int | None = 1000,
    batch_size: int = 256,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Measure the Gram matrix of the inputs of every linear layer.

    With the rows of X the inputs that a layer is given for L tokens, padding left out,

        G = X^T X / L.

    A layer that is used several times has the tokens of all uses. Sums are of float64,
    within a batch of float32.

    Args:
        model: its `forward` takes a batch; measured in evaluation mode. If it has a
            `token_mask`, as in `MasksTokens`, that leaves padding out.
        examples: the expert's own, labels are not used.
        limit: use at most so many of them, drawn at random; None for all.
        batch_size: how many at a time; the result does not depend on it.
        seed: decides which examples are drawn.

    Returns:
        G [d_in, d_in], float32, for every weight in `linear_weights`, except those that
        got no tokens and fused input projections of cross-attention.

    Raises:
        NonFiniteError: if an input is NaN or infinite.

    Source:
        Jin et al., "Dataless Knowledge Fusion by Merging Weights of Language Models",
        ICLR 2023, arXiv:2212.09849, Section 3.2. Division by L as in the authors' code,
        not in the formula; it makes experts count alike, not by their examples.
    """
    sums, tokens = _accumulate(
        model, examples, choose_examples(examples, limit=limit, seed=seed), batch_size
    )
    for name, matrix in sums.items():
        if not matrix.isfinite().all():
            raise NonFiniteError(f"Inputs of {name} are NaN or infinite.")
    unseen = sorted(linear_weights(model).keys() - sums.keys())
    if unseen:
        logger.info("No Gram matrix for %s, which will be averaged.", ", ".join(unseen))
    return {name: (sums[name] / tokens[name]).float().cpu() for name in sorted(sums)}


def gram_flops(
    model: nn.Module, examples: Examples, *, limit: int | None = 1000
) -> tuple[int, float]:
    """Count the operations of `gram_matrices`, if all examples are like the first.

    Args:
        model: see `gram_matrices`.
        examples: see `gram_matrices`.
        limit: see `gram_matrices`.

    Returns:
        The exact number, forward passes (with output projections of attention applied
        twice) plus 2 d_in^2 for each token of each layer, and that of the Realistic
        Evaluation paper's Table 3, d_in^2 d_out for each token of each layer.
    """
    used = len(choose_examples(examples, limit=limit, seed=0))
    with FlopCounterMode(display=False) as counter:
        _, tokens = _accumulate(model, examples, torch.arange(1), 1)
    layers = linear_weights(model)
    paper = sum(
        n * layers[name][1] ** 2 * layers[name][0] for name, n in tokens.items()
    )
    return used * counter.get_total_flops(), float(used * paper)


def count_tokens(model: nn.Module, examples: Examples) -> dict[str, int]:
    """Count what each linear layer is given for one example, padding left out.

    Args:
        model: see `gram_matrices`.
        examples: the first of them is used.

    Returns:
        Number of tokens by name of the weight.
    """
    return _accumulate(model, examples, torch.arange(1), 1)[1]


def _accumulate(
    model: nn.Module, examples: Examples, chosen: Tensor, batch_size: int
) -> tuple[dict[str, Float[Tensor, "d_in d_in"]], dict[str, int]]:
    sums: dict[str, Tensor] = {}
    tokens: dict[str, int] = {}
    batch: Batch = {}

    def record(name: str, inputs: Tensor) -> None:
        mask = model.token_mask(name, batch) if isinstance(model, MasksTokens) else None
        rows = inputs.detach() if mask is None else inputs.detach()[mask]
        rows = rows.reshape(-1, inputs.shape[-1])
        if not len(rows):
            return
        rows = rows if rows.dtype == torch.float64 else rows.float()
        product = (rows.T @ rows).double()
        sums[name] = sums[name].add_(product) if name in sums else product
        tokens[name] = tokens.get(name, 0) + len(rows)

    with evaluation_mode(model) as device, record_linear_inputs(model, record):
        for _, batch in batches(examples, chosen, batch_size=batch_size, device=device):
            # With gradients on, PyTorch does not fuse whole layers into one operation,
            # which would hide their inputs; what it saves for them is thrown away.
            with torch.enable_grad(), saved_tensors_hooks(_forget, _refuse):
                model(batch)
    return sums, tokens


def _forget(_: Tensor) -> None:
    return None


def _refuse(_: None) -> Tensor:
    raise RuntimeError("Nothing was saved for a backward pass.")
