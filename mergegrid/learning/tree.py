"""Trees of experts: which are merged first, given or by how alike they are."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

from mergegrid.errors import InputError
from mergegrid.learning.merged_model import Directions

Given: TypeAlias = "str | tuple[Given, ...]"
"""An expert's name, or what is merged together."""


@dataclass(frozen=True)
class Node:
    """Something that is merged with others: an expert, or what was merged before."""

    experts: tuple[str, ...]
    """The experts in it, in the order of all experts."""

    parts: tuple["Node", ...] = ()
    """What it is merged from; nothing for an expert."""

    @property
    def name(self) -> str:
        """What tells it from other nodes of its tree."""
        return "+".join(self.experts)

    def merges(self) -> Iterator["Node"]:
        """List the merges that it consists of, each after those that it builds on.

        Yields:
            Nodes that have parts; the last is this one.
        """
        for part in self.parts:
            yield from part.merges()
        if self.parts:
            yield self


def given_tree(given: Given, experts: Sequence[str]) -> Node:
    """Read a tree that was written down.

    Args:
        given: nested, down to experts' names.
        experts: all that are merged, in order.

    Returns:
        Its root.

    Raises:
        InputError: if an expert is missing, unknown, or there twice, or a merge is of
            one thing alone.
    """
    root = _read(given, experts)
    for expert in experts:
        times = [*_leaves(given)].count(expert)
        if times != 1:
            raise InputError(
                f"The tree has {expert} {times} times; it has to have every expert "
                f"once: {', '.join(experts)}."
            )
    return root


def _read(given: Given, experts: Sequence[str]) -> Node:
    if isinstance(given, str):
        if given not in experts:
            raise InputError(
                f"The tree has {given}, which is none of the experts "
                f"{', '.join(experts)}."
            )
        return Node((given,))
    if len(given) == 1:
        return _read(given[0], experts)
    if not given:
        raise InputError("The tree has an empty list; leave it out.")
    return _joined([_read(part, experts) for part in given], experts)


def _leaves(given: Given) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    else:
        for part in given:
            yield from _leaves(part)


def similar_tree(
    similarity: Float64[Tensor, "expert expert"], experts: Sequence[str], together: int
) -> Node:
    """Merge experts that are alike first.

    Again and again, the two nodes whose experts are most alike on average are put
    together (agglomerative clustering by average linkage), the first of equal ones. As
    long as they have no more than `together` experts, all of these are merged at once.

    Args:
        similarity: of every two experts' task vectors.
        experts: their names, in order.
        together: most experts, or other merges, that are merged at once.

    Returns:
        The root.
    """
    place = {expert: number for number, expert in enumerate(experts)}
    nodes = [Node((expert,)) for expert in experts]

    def alike(pair: tuple[Node, Node]) -> float:
        rows, columns = ([place[e] for e in node.experts] for node in pair)
        return similarity[rows][:, columns].mean().item()

    def first(node: Node) -> int:
        return place[node.experts[0]]

    while len(nodes) > 1:
        pair = max(itertools.combinations(nodes, 2), key=alike)
        rest = [node for node in nodes if node not in pair]
        joined = _joined(_parts(pair, together), experts)
        nodes = sorted([*rest, joined], key=first)
    return nodes[0]


def _parts(pair: tuple[Node, Node], together: int) -> list[Node]:
    """Put two nodes together: all their experts at once, if those are few enough."""
    experts = [e for node in pair for e in node.experts]
    if len(experts) <= together:
        return [Node((expert,)) for expert in experts]
    return [*pair]


def _joined(parts: Sequence[Node], experts: Sequence[str]) -> Node:
    within = {expert for part in parts for expert in part.experts}
    ordered = sorted(parts, key=lambda part: experts.index(part.experts[0]))
    return Node(tuple(e for e in experts if e in within), tuple(ordered))


def cosines(directions: Directions) -> Float64[Tensor, "expert expert"]:
    """Tell how alike task vectors are: the cosine of the angle between them.

    Args:
        directions: the task vectors.

    Returns:
        cos(t_a, t_b) over the whole model; 0 where one of them is zero.
    """
    number = len(directions.experts)
    products = torch.zeros(number, number, dtype=torch.float64)
    for name in directions.names:
        vectors = directions.of(name).double()
        products += (vectors @ vectors.mT).cpu()
    norms = products.diagonal().clamp(min=0).sqrt()
    scale = norms[:, None] * norms[None, :]
    return torch.where(scale > 0, products / scale.where(scale > 0, 1), 0)
