"""Learning the coefficients of a recipe, as the engine then takes them."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mergegrid.engine import RecipeLike, read_recipe
from mergegrid.errors import InputError
from mergegrid.learning.directions import Streamed
from mergegrid.learning.held import Held
from mergegrid.learning.learned import Checkpoint, Hold, Learned, NoCheckpoint
from mergegrid.learning.merged_model import MergedModel
from mergegrid.measured import Statistics
from mergegrid.methods import get_method
from mergegrid.parameters import Parameters
from mergegrid.sources import InMemory
from mergegrid.suites.examples import Examples
from mergegrid.suites.suite import Progress

LOGGER = logging.getLogger("mergegrid")


def learn_coefficients(
    model: nn.Module,
    experts: Mapping[str, Parameters],
    recipe: RecipeLike,
    pretrained: Parameters,
    examples: Mapping[str, Examples],
    statistics: Statistics | None = None,
    *,
    seed: int = 0,
    hold: Hold = "held",
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Tensor], Learned]:
    """Learn the coefficients of a merge.

    Args:
        model: takes batches of `examples`; its parameters are overwritten, at last with
            the merged ones.
        experts: parameters by expert; in memory, or mapped from files.
        recipe: a method that learns, with its options.
        pretrained: what the experts were fine-tuned from.
        examples: what to learn from, by task. Every expert's name is a task's.
        statistics: see `mergegrid.merge`.
        seed: decides which examples are used, and their order.
        hold: where task vectors are.
        checkpoint: where to go on from if learning was cut off; None: it starts anew.
        progress: told about every update.

    Returns:
        For every parameter a coefficient for each expert, in order, float64: what
        `mergegrid.merge` takes as `{Need.COEFFICIENTS: {"all": ...}}`; and how learning
        went.

    Raises:
        InputError: if the method learns nothing, an expert has no examples, or
            the loss is not finite.
    """
    checked = read_recipe(recipe)
    method = get_method(checked.method)
    learning = method.learning
    if learning is None:
        raise InputError(f"{method.name} learns no coefficients.")
    for expert in experts:
        if expert not in examples:
            raise InputError(f"There are no examples of the task of expert {expert!r}.")
    before = {name: tensor.detach().clone() for name, tensor in pretrained.items()}
    device = next(model.parameters()).device
    streamed = Streamed(
        {name: InMemory(parameters) for name, parameters in experts.items()},
        InMemory(before),
        checked,
        statistics or {},
        seed=seed,
        device=device,
    )
    main_memory = torch.device("cpu") if hold == "offloaded" else None
    merged = MergedModel(
        model,
        before,
        streamed
        if hold == "streamed" or learning.is_lean
        else Held(streamed, main_memory),
        {expert: examples[expert] for expert in experts},
    )
    options = {name: checked.options[name] for name in method.learned_options}
    learned = learning.learn(
        merged, seed, checkpoint or NoCheckpoint(), progress, **options
    )
    if learned.collapsed:
        LOGGER.warning(
            "%s: the merged model answers %s with less than half of the labels that it "
            "gave at the start; its coefficients are not to be trusted there.",
            method.name,
            ", ".join(learned.collapsed),
        )
    rows = learned.coefficients.detach().unbind()
    return dict(zip(merged.names, rows, strict=True)), learned
