"""Model Stock: the average, drawn to the pretrained model by how experts disagree."""

import math
from types import MappingProxyType
from typing import Annotated

from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.survey import Survey

NO_LENGTH = 1e-9
"""Squared length that counts as zero, so that nothing is divided by it."""


def model_stock(
    task_vectors: Float[Tensor, "expert *shape"],
    dots: Float64[Tensor, "expert expert"],
    *,
    clamp: Annotated[
        bool, Field(description="whether a ratio below 0 is taken for 0")
    ] = True,
) -> Float[Tensor, "*shape"]:
    """Merge one parameter's task vectors into a share of their mean.

    With c the mean cosine between the task vectors of two experts, over all pairs,

        merged = t * mean_e task_vector_e,    t = M c / (1 + (M - 1) c),

    the point between all models that is nearest to the centre of fine-tuned models, if
    experts and pretrained model are at right angles to one another as seen from there.
    Experts that agree are averaged (t = 1); if task vectors are at right angles to one
    another, or wider, the result is the pretrained model (t = 0). A task vector of zero
    is at right angles to all others; a single expert is returned.

    It is meant for fine-tunes on one task: those on different tasks are nearly at right
    angles, and so the merged model is nearly the pretrained one.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        dots: dot products of every two task vectors, over this parameter by itself
            unless the option `scope` says otherwise, from `dot_products`.
        clamp: otherwise, task vectors at angles wider than right are merged the other
            way round, as the formula has it (mergekit).

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`.

    Source:
        Jang, Yun and Han, "Model Stock", ECCV 2024, arXiv:2403.19522; the mean over
        pairs for more than two experts as in mergekit.
    """
    return task_vectors.mean(dim=0) * ratio(dots, clamp=clamp).to(task_vectors.dtype)


def ratio(
    dots: Float64[Tensor, "expert expert"], *, clamp: bool = True
) -> Float64[Tensor, ""]:
    """Compute the interpolation ratio.

    Args:
        dots: dot products of every two task vectors.
        clamp: see `model_stock`.

    Returns:
        t, at most 1; 0 where the formula divides by zero.
    """
    experts = len(dots)
    if experts == 1:
        return dots.new_ones(())
    lengths = dots.diagonal().sqrt()
    directed = lengths.reciprocal().where(lengths > 0, 0)
    cosines = directed[:, None] * dots * directed
    pairs = experts * (experts - 1)
    cosine = (cosines.sum() - cosines.diagonal().sum()) / pairs
    if clamp:
        cosine = cosine.clamp(min=0)
    # Below is the square of the length of the sum of all directions, over M.
    below = 1 + (experts - 1) * cosine
    return (experts * cosine / below).where(below > NO_LENGTH, 0).clamp(max=1)


def dot_products(
    task_vectors: Float[Tensor, "expert *shape"],
) -> Float64[Tensor, "expert expert"]:
    """Measure one parameter's part of the dot products of every two task vectors.

    Args:
        task_vectors: expert minus pretrained, for every expert.

    Returns:
        The dot products, in float64.
    """
    flat = task_vectors.reshape(len(task_vectors), -1).double()
    return flat @ flat.mT


def model_stock_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> int:
    """Count the floating-point operations of Model Stock on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Per entry: M differences, M^2 multiply-adds for dot products, M operations for
        the mean, a product with t, and the multiply-add of the scale. What becomes of
        the dot products does not grow with the entries and is left out.
    """
    return (experts + 2 * experts**2 + experts + 1 + 2) * math.prod(shape)


METHOD = Method(
    name="model_stock",
    title="Model Stock",
    merge=model_stock,
    version=2,
    source='Jang, Yun and Han, "Model Stock: all we need is just a few fine-tuned '
    'models", ECCV 2024, arXiv:2403.19522',
    flops=model_stock_flops,
    needs=frozenset({Need.PRETRAINED}),
    scale=1.0,
    scope="tensor",
    surveys=MappingProxyType({"dots": Survey(dot_products)}),
)
