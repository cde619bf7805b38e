"""SuperMerge: coefficients for every tensor of every expert, learned from labels."""

import math
from typing import Annotated, Literal, TypeAlias

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mergegrid.learning.coefficients import Bound, Granularity, Parametrization
from mergegrid.learning.descent import (
    Descent,
    EvaluateEvery,
    ExamplesPerTask,
    Initial,
    LearningRate,
    Optimizer,
    Patience,
    Updates,
    WeightDecay,
)
from mergegrid.learning.learned import Checkpoint, Learned, Learning
from mergegrid.learning.merged_model import MergedModel
from mergegrid.learning.supervised import Supervision, learn_supervised, shares_of
from mergegrid.likelihood import Positions
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.suites.suite import Progress

CoefficientBound: TypeAlias = Annotated[
    Bound,
    Field(
        description="what coefficients are kept within: (-1, 1) by a hyperbolic "
        "tangent, [0, 1] by clamping, or nothing"
    ),
]

OneFor: TypeAlias = Annotated[
    Granularity,
    Field(description="whether an expert has a coefficient per tensor, or one for all"),
]

LabelledSplit: TypeAlias = Annotated[
    Literal["train", "validation"],
    Field(description="the labelled examples that coefficients are learned from"),
]

Holdout: TypeAlias = Annotated[
    float,
    Field(ge=0, lt=1, description="fraction of the examples that stops learning early"),
]

BatchSize: TypeAlias = Annotated[
    int, Field(ge=1, description="examples in an update, from the pool of all tasks")
]

AnswerPositions: TypeAlias = Annotated[
    Positions,
    Field(description="whether an answer's loss is the mean or the sum over positions"),
]


def supermerge(
    pretrained: Float[Tensor, "*shape"],
    task_vectors: Float[Tensor, "expert *shape"],
    coefficients: Float[Tensor, " expert"],
) -> Float[Tensor, "*shape"]:
    """Add one parameter's task vectors, each by its learned coefficient.

    The merged parameter is pretrained + sum_e c_e task_vector_e.

    Args:
        pretrained: the pretrained parameter.
        task_vectors: expert minus pretrained, for every expert.
        coefficients: c, of this parameter.

    Returns:
        The merged parameter, in the precision of `task_vectors`.

    Source:
        Yang et al., "SuperMerge", arXiv:2412.10416, eq. 4.
    """
    weights = coefficients.to(task_vectors.dtype)
    weighted = task_vectors * weights.view(-1, *(1,) * pretrained.dim())
    return pretrained + weighted.sum(dim=0)


def raw_task_vectors(
    task_vectors: Float[Tensor, "expert *shape"],
) -> Float[Tensor, "expert *shape"]:
    """Give what coefficients multiply: the task vectors as they are.

    Args:
        task_vectors: expert minus pretrained, for every expert.

    Returns:
        The same.
    """
    return task_vectors


def learn(
    model: MergedModel,
    seed: int,
    checkpoint: Checkpoint,
    progress: Progress | None,
    *,
    bound: CoefficientBound = "tanh",
    granularity: OneFor = "tensor",
    initial: Initial = 0.3,
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
    """Learn the coefficients that answer all tasks' labelled examples best.

    The paper minimizes the cross-entropy over the pooled validation data of all tasks,
    with a coefficient for each tensor and expert, c = tanh(w). It leaves optimizer,
    learning rate, updates and initial values open; what is here was chosen on glyphs,
    see docs/findings.md.

    Args:
        model: what is learned, with the examples of its tasks.
        seed: decides which examples are used, and their order.
        checkpoint: where descent goes on from.
        progress: told about every update.
        bound: tanh is the paper's; none is its ablation (Table 4).
        granularity: `tensor` is the paper's.
        initial: every coefficient at the start: task arithmetic with this scale.
        optimizer: what makes updates of gradients.
        learning_rate: of w.
        weight_decay: of w.
        steps: most updates.
        batch_size: examples in an update.
        split: where the labelled examples are from; used by the caller.
        examples: of each task; None for all.
        holdout: 0 for no early stopping.
        evaluate_every: updates between looks at the examples held out.
        patience: looks without improvement.
        positions: see `mergegrid.likelihood`.

    Returns:
        The coefficients.
    """
    del split  # the caller has chosen the examples
    form = Parametrization(bound, granularity, len(model.names), len(model.experts))
    supervision = Supervision(examples, holdout, batch_size, positions)
    shares = shares_of(model, supervision, seed=seed)
    found, gradients, looked = learn_supervised(
        model,
        form,
        initial,
        Descent(
            optimizer,
            learning_rate,
            weight_decay,
            steps,
            evaluate_every,
            patience if holdout else None,
        ),
        supervision,
        shares,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )
    return Learned(
        coefficients=found.coefficients,
        history=found.history,
        steps=found.steps,
        examples=gradients,
        looked_at=looked,
        labelled=sum(share.used for share in shares.values()),
        trained=form.start(initial).numel(),
        together=len(model.experts),
    )


def supermerge_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> int:
    """Count the floating-point operations of merging one parameter.

    What it takes to learn the coefficients is the cost of a step of its own.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Per entry: M differences, M multiply-adds of the sum, an addition.
    """
    return (3 * experts + 1) * math.prod(shape)


METHOD = Method(
    name="supermerge",
    title="SuperMerge",
    merge=supermerge,
    version=1,
    source='Yang et al., "SuperMerge: an approach for gradient-based model merging", '
    "arXiv:2412.10416, eq. 4 and 5",
    flops=supermerge_flops,
    needs=frozenset({Need.PRETRAINED, Need.COEFFICIENTS}),
    learning=Learning(learn, "labelled", raw_task_vectors),
)
