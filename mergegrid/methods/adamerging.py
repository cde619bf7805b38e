"""AdaMerging: coefficients with which the model is surest of its answers."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from mergegrid.learning.coefficients import Parametrization
from mergegrid.learning.descent import (
    Descent,
    EvaluateEvery,
    ExamplesPerTask,
    Initial,
    LearningRate,
    Updates,
)
from mergegrid.learning.learned import Checkpoint, Learned, Learning
from mergegrid.learning.merged_model import MergedModel
from mergegrid.learning.unsupervised import Adaptation, learn_unsupervised
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.supermerge import (
    CoefficientBound,
    OneFor,
    raw_task_vectors,
    supermerge,
    supermerge_flops,
)
from mergegrid.suites.suite import Progress

UnlabelledSplit: TypeAlias = Annotated[
    Literal["validation", "test"],
    Field(
        description="the inputs that coefficients are learned from; with those of the "
        "test split the method is transductive, as it is in its paper"
    ),
]

BatchSize: TypeAlias = Annotated[
    int, Field(ge=1, description="inputs of each task in an update")
]


def learn(
    model: MergedModel,
    seed: int,
    checkpoint: Checkpoint,
    progress: Progress | None,
    *,
    granularity: OneFor = "tensor",
    bound: CoefficientBound = "unit",
    initial: Initial = 0.3,
    learning_rate: LearningRate = 0.001,
    steps: Updates = 500,
    batch_size: BatchSize = 16,
    split: UnlabelledSplit = "validation",
    examples: ExamplesPerTask = None,
    evaluate_every: EvaluateEvery = 50,
) -> Learned:
    """Learn the coefficients with the least entropy of the model's answers.

    The paper descends, by Adam at 1e-3, on the sum over tasks of the mean entropy of a
    batch of test inputs, from coefficients of .3, and keeps them in [0, 1]. Of an
    answer that is a text, the entropy is that of its first token: the others are
    predicted from the gold answer.

    Args:
        model: what is learned, with the inputs of its tasks.
        seed: decides the order of the inputs.
        checkpoint: where descent goes on from.
        progress: told about every update.
        granularity: `tensor` is layer-wise AdaMerging, `model` task-wise.
        bound: see above.
        initial: every coefficient at the start: task arithmetic with this scale.
        learning_rate: of Adam.
        steps: updates; all are made.
        batch_size: inputs of each task in an update.
        split: where the inputs are from; used by the caller.
        examples: of each task; None for all.
        evaluate_every: updates between looks for a collapse.

    Returns:
        The coefficients.

    Source:
        Yang et al., "AdaMerging", ICLR 2024, arXiv:2310.02575, eq. 4 to 7.
    """
    del split  # the caller has chosen the inputs
    form = Parametrization(bound, granularity, len(model.names), len(model.experts))
    return learn_unsupervised(
        model,
        form,
        initial,
        Descent("adamw", learning_rate, 0.0, steps, evaluate_every, None),
        Adaptation(examples, batch_size),
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )


METHOD = Method(
    name="adamerging",
    title="AdaMerging",
    merge=supermerge,
    version=1,
    source='Yang et al., "AdaMerging: adaptive model merging for multi-task learning", '
    "ICLR 2024, arXiv:2310.02575, eq. 4 to 7",
    flops=supermerge_flops,
    needs=frozenset({Need.PRETRAINED, Need.COEFFICIENTS}),
    learning=Learning(learn, "unlabelled", raw_task_vectors),
)
