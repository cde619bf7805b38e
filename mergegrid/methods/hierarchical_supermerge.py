"""Hierarchical SuperMerge: like experts first, a few in memory at a time."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field
from typing_extensions import TypeAliasType

from mergegrid.learning.coefficients import Coefficients, Parametrization
from mergegrid.learning.descent import (
    Descent,
    EvaluateEvery,
    ExamplesPerTask,
    LearningRate,
    Optimizer,
    Patience,
    Updates,
    WeightDecay,
)
from mergegrid.learning.held import Combined, Held
from mergegrid.learning.learned import Checkpoint, Learned, Learning, Look, Part
from mergegrid.learning.merged_model import MergedModel
from mergegrid.learning.supervised import Supervision, learn_supervised, shares_of
from mergegrid.learning.tree import cosines, given_tree, similar_tree
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.supermerge import (
    AnswerPositions,
    BatchSize,
    CoefficientBound,
    Holdout,
    LabelledSplit,
    OneFor,
    raw_task_vectors,
    supermerge,
    supermerge_flops,
)
from mergegrid.suites.suite import Progress

Nested = TypeAliasType("Nested", "str | tuple[Nested, ...]")

Tree: TypeAlias = Annotated[
    Literal["similarity"] | tuple[Nested, ...],
    Field(
        description="what is merged with what first: nested lists of experts, or by "
        "how alike their task vectors are"
    ),
]

Together: TypeAlias = Annotated[
    int,
    Field(
        ge=2,
        description="most models that are merged at a time, and held in memory; of a "
        "tree by similarity",
    ),
]

InitialOfPart: TypeAlias = Annotated[
    Annotated[float, Field(allow_inf_nan=False)] | None,
    Field(
        description="every coefficient of a merge at its start; None: one over the "
        "number of its parts"
    ),
]


def learn(
    model: MergedModel,
    seed: int,
    checkpoint: Checkpoint,
    progress: Progress | None,
    *,
    tree: Tree = "similarity",
    together: Together = 2,
    bound: CoefficientBound = "tanh",
    granularity: OneFor = "tensor",
    initial: InitialOfPart = None,
    optimizer: Optimizer = "adamw",
    learning_rate: LearningRate = 0.05,
    weight_decay: WeightDecay = 0.0,
    steps: Updates = 200,
    batch_size: BatchSize = 128,
    split: LabelledSplit = "validation",
    examples: ExamplesPerTask = None,
    holdout: Holdout = 0.25,
    evaluate_every: EvaluateEvery = 10,
    patience: Patience = 5,
    positions: AnswerPositions = "mean",
) -> Learned:
    """Merge like experts first, each merge learned from its own tasks' examples alone.

    What a merge yields is a model fine-tuned from the same pretrained one, and is
    merged with others in turn. Merges are sums, so that all of them together are one
    sum over the experts: its coefficients are products along the tree.

    Args:
        model: what is learned, with the examples of its tasks.
        seed: decides which examples are used, and their order.
        checkpoint: where descent goes on from; what was merged before is kept too.
        progress: told about every update of every merge.
        tree: nested lists of experts, or by similarity: see `similar_tree`.
        together: most parts of a merge; of a tree by similarity.
        bound: see `mergegrid.methods.supermerge.learn`, so for all that follow.
        granularity: likewise.
        initial: likewise, of each merge.
        optimizer: likewise.
        learning_rate: likewise.
        weight_decay: likewise.
        steps: likewise, of each merge.
        batch_size: likewise.
        split: likewise.
        examples: likewise.
        holdout: likewise.
        evaluate_every: likewise.
        patience: likewise.
        positions: likewise.

    Returns:
        The coefficients of all experts.
    """
    del split  # the caller has chosen the examples
    experts, tensors = model.experts, len(model.names)
    root = (
        similar_tree(cosines(model.directions), experts, together)
        if isinstance(tree, str)
        else given_tree(tree, experts)
    )
    supervision = Supervision(examples, holdout, batch_size, positions)
    shares = shares_of(model, supervision, seed=seed)
    descent = Descent(
        optimizer,
        learning_rate,
        weight_decay,
        steps,
        evaluate_every,
        patience if holdout else None,
    )
    merges = [*root.merges()]
    weights: dict[tuple[str, ...], Coefficients] = {
        (expert,): _alone(expert, experts, tensors) for expert in experts
    }
    history: list[Look] = []
    steps = gradients = looked_at = trained = 0
    for number, node in enumerate(merges):
        parts = {part.name: weights[part.experts] for part in node.parts}
        # The last merge is of everything: alone, it is SuperMerge itself.
        name = "" if node is root else node.name
        start = 1 / len(parts) if initial is None else initial
        form = Parametrization(bound, granularity, tensors, len(parts))
        found, taken, looked = learn_supervised(
            model.with_directions(
                Held(Combined(model.directions, parts)), node.experts
            ),
            form,
            start,
            descent,
            supervision,
            shares,
            seed=seed,
            checkpoint=Part(checkpoint, name or "root"),
            progress=_within(progress, number, len(merges)),
            node=name,
        )
        of_parts = torch.stack([*parts.values()], dim=1)
        own = found.coefficients.detach()
        weights[node.experts] = (own[:, :, None] * of_parts).sum(dim=1)
        history += found.history
        steps += found.steps
        gradients += taken
        looked_at += looked
        trained += form.start(start).numel()
    model.merge(weights[root.experts])
    return Learned(
        coefficients=weights[root.experts],
        history=tuple(history),
        steps=steps,
        examples=gradients,
        looked_at=looked_at,
        labelled=sum(share.used for share in shares.values()),
        trained=trained,
        together=max((len(node.parts) for node in merges), default=1),
    )


def _alone(expert: str, experts: Sequence[str], tensors: int) -> Coefficients:
    """Give the coefficients of an expert that has not been merged with others."""
    row = torch.tensor([float(other == expert) for other in experts]).double()
    return row.expand(tensors, -1)


def _within(progress: Progress | None, number: int, of: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, whole: progress(number * whole + done, of * whole)


METHOD = Method(
    name="hierarchical_supermerge",
    title="Hierarchical SuperMerge",
    merge=supermerge,
    version=1,
    source='Yang et al., "SuperMerge: an approach for gradient-based model merging", '
    "arXiv:2412.10416, sec. 5",
    flops=supermerge_flops,
    needs=frozenset({Need.PRETRAINED, Need.COEFFICIENTS}),
    learning=Learning(learn, "labelled", raw_task_vectors, is_lean=True),
    experts=(2, None),
)
