"""Linear systems whose solution is what all experts' Fisher information agrees on."""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mergegrid.methods.conjugate_gradients import System
from mergegrid.methods.slices import row_slices

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
    # A step is one matrix product, whatever the number of experts.
    summed = torch.zeros_like(grams[0], dtype=torch.float64)
    target = torch.zeros_like(experts[0], dtype=torch.float64)
    for weight, stored in zip(experts, grams, strict=True):
        gram = stored.double()  # no more than one at a time
        summed += gram
        for rows in row_slices(target):
            target[..., rows, :] += weight[..., rows, :].double() @ gram
        del gram
    return lambda weight: weight @ summed, target


def _matching_kfac(
    experts: Tensor, grams: Tensor, gradients: Tensor
) -> tuple[System, Tensor]:
    def add(summed: Tensor, weight: Tensor, expert: int) -> None:
        image = weight @ grams[expert].double()
        of_outputs = gradients[expert].double()
        if summed.dim() > 2:
            summed += of_outputs @ image
        else:
            torch.addmm(summed, of_outputs, image, out=summed)

    def system(weight: Tensor) -> Tensor:
        summed = torch.zeros_like(weight)
        for expert in range(len(experts)):
            add(summed, weight, expert)
        return summed

    target = torch.zeros_like(experts[0], dtype=torch.float64)
    for expert, weight in enumerate(experts):
        add(target, weight.double(), expert)
    return system, target


def _matching_diagonal(experts: Tensor, fisher: Tensor) -> tuple[System, Tensor]:
    summed = torch.zeros_like(experts[0], dtype=torch.float64)
    target = torch.zeros_like(summed)
    for weight, information in zip(experts, fisher, strict=True):
        for rows in row_slices(target):
            some = information[..., rows, :].double()
            summed[..., rows, :] += some
            target[..., rows, :] += some * weight[..., rows, :]
    return lambda weight: weight * summed, target
