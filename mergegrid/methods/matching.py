"""Linear systems whose solution is what all experts' Fisher information agrees on."""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mergegrid.methods.conjugate_gradients import System

Covariance: TypeAlias = Literal["inputs", "kfac", "diagonal"]
"""What the Fisher information of a layer's weight is taken as; see `matching`."""


def matching(
    covariance: Covariance,
    experts: Float[Tensor, "expert *layer d_out d_in"],
    grams: Float[Tensor, "expert *layer d_in d_in"] | None,
    gradients: Float[Tensor, "expert *layer d_out d_out"] | None,
    fisher: Float[Tensor, "expert *layer d_out d_in"] | None,
) -> tuple[System, Float64[Tensor, "*layer d_out d_in"]]:
    """Give the linear system sum_e F_e(W) = sum_e F_e(W_e).

    F_e(W), expert e's Fisher information times a layer's weight W, is taken as

        inputs      W G_e         inputs alone
        kfac        B_e W G_e     inputs and output gradients, as if independent
        diagonal    D_e * W       entry by entry

    Args:
        covariance: which of these.
        experts: W_e, the layer's weight in every expert.
        grams: G_e, Gram matrices of the layer's inputs; for `inputs` and `kfac`.
        gradients: B_e, Gram matrices of the gradients with respect to its outputs; for
            `kfac`.
        fisher: D_e, diagonal Fisher information; for `diagonal`.

    Returns:
        What takes W to sum_e F_e(W), and sum_e F_e(W_e); in float64.
    """
    match covariance:
        case "inputs":
            assert grams is not None, "the engine hands over what is needed"
            return _matching_inputs(experts, grams)
        case "kfac":
            assert grams is not None, "the engine hands over what is needed"
            assert gradients is not None, "the engine hands over what is needed"
            return _matching_kfac(experts, grams, gradients)
        case "diagonal":
            assert fisher is not None, "the engine hands over what is needed"
            return _matching_diagonal(experts, fisher)


def _matching_inputs(experts: Tensor, grams: Tensor) -> tuple[System, Tensor]:
    # A step is one matrix product, whatever the number of experts; and no more than one
    # Gram matrix is held in float64.
    summed = torch.zeros_like(grams[0], dtype=torch.float64)
    target = torch.zeros_like(experts[0], dtype=torch.float64)
    for weight, gram in zip(experts, grams, strict=True):
        summed += gram
        target += weight.double() @ gram.double()
    return lambda weight: weight @ summed, target


def _matching_kfac(
    experts: Tensor, grams: Tensor, gradients: Tensor
) -> tuple[System, Tensor]:
    of_inputs = grams.double()
    # B_1 to B_M side by side multiply what is stacked, and add it up.
    of_outputs = gradients.double().movedim(0, -2).flatten(-2)

    def summed(weights: Tensor) -> Tensor:
        return of_outputs @ (weights @ of_inputs).movedim(0, -3).flatten(-3, -2)

    return summed, summed(experts.double())


def _matching_diagonal(experts: Tensor, fisher: Tensor) -> tuple[System, Tensor]:
    summed = fisher.sum(dim=0, dtype=torch.float64)
    target = torch.zeros_like(summed)
    for weight, information in zip(experts, fisher, strict=True):
        target += weight.double() * information
    return lambda weight: weight * summed, target
