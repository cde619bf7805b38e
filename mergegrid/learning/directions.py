"""Task vectors as a method sees them, made tensor by tensor when they are needed."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mergegrid.blocks import Block
from mergegrid.cohort import Cohort
from mergegrid.measured import Statistics
from mergegrid.methods import get_method
from mergegrid.methods.method import Method, Recipe
from mergegrid.methods.needs import Need
from mergegrid.passes import merge_pass
from mergegrid.sources import Source
from mergegrid.surveying import measure
from mergegrid.variant import Variant


class Streamed:
    """Task vectors that are made from the models whenever they are asked for.

    Nothing is held but what the method asks about the model as a whole (thresholds,
    majorities), which is measured once.

    Args:
        experts: the experts by name, of one layout.
        pretrained: what they were fine-tuned from.
        recipe: a method that learns coefficients, with its options.
        statistics: what was measured on each expert.
        seed: for methods that draw at random.
        device: where arithmetic happens, and the model is.
    """

    def __init__(
        self,
        experts: Mapping[str, Source],
        pretrained: Source,
        recipe: Recipe,
        statistics: Statistics,
        *,
        seed: int = 0,
        device: torch.device,
    ) -> None:
        self._cohort = Cohort(experts, pretrained, statistics, seed=seed, device=device)
        self.experts = tuple(experts)
        self.names = tuple(self._cohort.parameters)
        members = tuple(range(len(self.experts)))
        method = _of_each_expert(get_method(recipe.method))
        self._variant = Variant(method, recipe.options, members)
        self._cohort.require(self._variant)
        self._found = measure(self._cohort, [self._variant])

    def of(self, name: str) -> Float[Tensor, "expert entry"]:
        """Make the task vectors of one parameter; see `Directions.of`."""
        shape = len(self.experts), self._cohort.layout.entries(name)
        vectors = torch.empty(shape, device=self._cohort.reading.device)

        def keep(_number: int, block: Block, stretch: Tensor) -> None:
            vectors[:, block.start : block.stop] = stretch

        merge_pass(self._cohort, {name: {0: self._variant}}, self._found, keep)
        return vectors


def _of_each_expert(method: Method) -> Method:
    """Make a method one that gives each expert's task vector, and does not merge."""
    assert method.learning is not None, "only of methods that learn coefficients"
    return replace(
        method,
        merge=method.learning.task_vectors,
        needs=method.needs - {Need.COEFFICIENTS},
        per_task=True,
        scale=1.0,
    )
