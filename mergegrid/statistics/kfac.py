"""Gram matrices of gradients with respect to linear layers' outputs, for MaTS."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.errors import NonFiniteError
from mergegrid.likelihood import Positions
from mergegrid.models.linear_inputs import linear_weights, record_linear_outputs
from mergegrid.statistics.gram import MasksTokens
from mergegrid.statistics.labels import LabelDraws, Variant, label_directions
from mergegrid.statistics.measuring import (
    Examples,
    batches,
    choose_examples,
    evaluation_mode,
)
from mergegrid.statistics.plain_attention import PlainAttention
from mergegrid.suites.examples import Batch

logger = logging.getLogger("mergegrid")


def output_gradient_grams(
    model: nn.Module,
    examples: Examples,
    *,
    variant: Variant = "sampled",
    limit: int | None = 1000,
    positions: Positions = "mean",
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """Measure the Gram matrix of the output gradients of every linear layer.

    With g_t the gradient of log p(y|x) with respect to what a layer makes of a token t
    of an example x, and L tokens of all examples, padding left out,

        exact      B = 1/L sum_t sum_y p(y|x) g_t g_t^T
        sampled    B = 1/L sum_t g_t g_t^T,  y drawn from p(y|x)
        empirical  B = 1/L sum_t g_t g_t^T,  y the gold label

    B and the Gram matrix G of the layer's inputs are the factors of K-FAC: if inputs
    and gradients of a token are independent, and those of different tokens too, the
    Fisher information of the layer's weight is proportional to their Kronecker product.
    A layer that is used several times has the tokens of all uses, as it has for G.

    Args:
        model: its `forward` takes a batch and gives log-probabilities [example,
            *position, label], each example's from that example alone; measured in
            evaluation mode. If it has a `token_mask`, as in `MasksTokens`, that leaves
            padding out.
        examples: the expert's own; `label` is used by `empirical` alone.
        variant: which labels gradients are taken for.
        limit: use at most so many examples, drawn at random; None for all.
        positions: see `diagonal_fisher`.
        seed: decides which examples and labels are drawn, the same ones as for
            `diagonal_fisher`.
        batch_size: how many at a time; the result does not depend on it.

    Returns:
        B [d_out, d_out], float32, for the weights for which `gram_matrices` has G.
        Products of a batch are of float32 or better, their sums of float64.

    Raises:
        NonFiniteError: if a gradient is NaN or infinite.

    Source:
        Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored
        Approximate Curvature", ICML 2015, arXiv:1503.05671; for merging, Tam et al.,
        "Merging by Matching Models in Task Parameter Subspaces", TMLR 2024,
        arXiv:2312.04339.
    """
    sums = _accumulate(
        model,
        examples,
        choose_examples(examples, limit=limit, seed=seed),
        LabelDraws(seed, len(examples)),
        _Sums(model, variant, positions),
        batch_size,
    )
    for name, matrix in sums.products.items():
        if not matrix.isfinite().all():
            raise NonFiniteError(f"Gradients of {name} are NaN or infinite.")
    unseen = sorted(linear_weights(model).keys() - sums.tokens.keys())
    if unseen:
        logger.info("No output gradients of %s.", ", ".join(unseen))
    return {
        name: (matrix / sums.tokens[name]).float().cpu()
        for name, matrix in sorted(sums.products.items())
    }


def output_gradient_flops(
    model: nn.Module,
    examples: Examples,
    *,
    variant: Variant = "sampled",
    limit: int | None = 1000,
) -> tuple[int, float]:
    """Count the operations of `output_gradient_grams`, if all examples are alike.

    Args:
        model: see `output_gradient_grams`.
        examples: see `output_gradient_grams`; the first is counted.
        variant: see `output_gradient_grams`.
        limit: see `output_gradient_grams`.

    Returns:
        The exact number, for each example one forward pass (with projections of
        attention applied twice) and for each of its labels one backward pass down to
        the first layer's outputs and 2 d_out^2 for each token of each layer; and that
        of the Realistic Evaluation paper's Table 3, 4 d_in^2 d_out for each token of
        each layer.
    """
    used = len(choose_examples(examples, limit=limit, seed=0))
    draws = LabelDraws(0, len(examples))
    with PlainAttention(), FlopCounterMode(display=False) as counter:
        sums = _Sums(model, variant, "mean")
        sums = _accumulate(model, examples, torch.arange(1), draws, sums, 1)
    layers = linear_weights(model)
    paper = sum(
        4 * n * layers[name][1] ** 2 * layers[name][0]
        for name, n in sums.tokens.items()
    )
    return used * counter.get_total_flops(), float(used * paper)


def _accumulate(
    model: nn.Module,
    examples: Examples,
    chosen: Tensor,
    draws: LabelDraws,
    sums: "_Sums",
    batch_size: int,
) -> "_Sums":
    with evaluation_mode(model) as device, record_linear_outputs(model, sums.record):
        for indices, batch in batches(
            examples, chosen, batch_size=batch_size, device=device
        ):
            sums.add(batch, draws.of(indices, batch))
    return sums


class _Use(NamedTuple):
    """A layer's use in a forward pass."""

    name: str
    """Of the weight."""

    edge: GradientEdge
    """Where its outputs are in the graph. What comes after may overwrite them in place;
    the gradient with respect to the tensor would then be another."""

    mask: Tensor | None
    """Which outputs are no padding."""


class _Sums:
    """Sums over tokens, which grow batch by batch."""

    def __init__(
        self, model: nn.Module, variant: Variant, positions: Positions
    ) -> None:
        self.products: dict[str, Float[Tensor, "d_out d_out"]] = {}
        self.tokens: dict[str, int] = {}
        self._model = model
        self._variant: Variant = variant
        self._positions: Positions = positions
        self._batch: Batch = {}
        self._uses: list[_Use] = []

    def record(self, name: str, outputs: Tensor) -> None:
        """Take note of a layer's use."""
        model, batch = self._model, self._batch
        mask = model.token_mask(name, batch) if isinstance(model, MasksTokens) else None
        count = outputs[..., 0].numel() if mask is None else int(mask.sum())
        if not count:
            return
        self.tokens[name] = self.tokens.get(name, 0) + count
        if name not in self.products:
            shape = 2 * outputs.shape[-1:]
            self.products[name] = outputs.new_zeros(shape, dtype=torch.float64)
        if outputs.requires_grad:
            self._uses.append(_Use(name, get_gradient_edge(outputs), mask))

    def add(self, batch: Batch, draws: Tensor) -> None:
        """Add the products of a batch."""
        self._batch = batch
        self._uses.clear()
        with torch.enable_grad():
            outputs = self._model(batch)
        edges = [use.edge for use in self._uses]
        if not edges:
            return
        # Examples do not interact: the gradient of their sum is that of each of them.
        for direction in label_directions(
            outputs.detach(),
            batch,
            draws,
            self._variant,
            axes=batch["label"].ndim - 1,
            positions=self._positions,
        ):
            gradients = _gradients(outputs, edges, direction)
            for use, gradient in zip(self._uses, gradients, strict=True):
                if gradient is not None:
                    rows = _rows(gradient, use.mask)
                    self.products[use.name] += rows.T @ rows
        self._uses.clear()  # and with them the graph


def _gradients(
    outputs: Tensor, edges: Sequence[GradientEdge], direction: Tensor
) -> Sequence[Tensor | None]:
    return torch.autograd.grad(
        outputs, edges, direction, retain_graph=True, allow_unused=True
    )


def _rows(gradient: Tensor, mask: Tensor | None) -> Float[Tensor, "token d_out"]:
    rows = gradient if mask is None else gradient[mask]
    rows = rows.reshape(-1, gradient.shape[-1])
    return rows if rows.dtype == torch.float64 else rows.float()
