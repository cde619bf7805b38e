"""A model whose parameters are a weighted sum of task vectors, and its gradients.

With pretrained parameters p_j, task vectors t_ij and coefficients c_ij (tensor j,
expert i), the model has

    theta_j = p_j + sum_i c_ij t_ij,    and    dL/dc_ij = <dL/dtheta_j, t_ij>.

So a gradient with respect to the coefficients needs no copy of the model per expert in
the graph: the model is run as it is, and the gradient of each of its tensors is reduced
to one number per expert as soon as it is there, and given up.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from mergegrid.learning.coefficients import Coefficients
from mergegrid.suites.examples import Batch, Concatenation, Examples

Loss = Callable[[nn.Module, Batch], Float[Tensor, " example"]]
"""Gives one number for each example of a batch."""


@runtime_checkable
class Directions(Protocol):
    """What coefficients multiply: the task vectors, tensor by tensor."""

    @property
    def names(self) -> Sequence[str]:
        """The parameters that have any, in order."""
        ...

    @property
    def experts(self) -> Sequence[str]:
        """Whose they are, in order."""
        ...

    def of(self, name: str) -> Float[Tensor, "expert entry"]:
        """Give the task vectors of one parameter, flat.

        Args:
            name: the parameter.

        Returns:
            A row for each expert, where the model is. Not to be changed.
        """
        ...


class MergedModel:
    """A model that is merged anew whenever its coefficients change.

    Args:
        model: its merged parameters, which require gradients, are overwritten; it is
            left in evaluation mode.
        pretrained: values of the merged parameters before fine-tuning.
        directions: the task vectors; every merged parameter that has none stays
            pretrained.
        examples: what is learned from, by task, as the model takes them.
    """

    def __init__(
        self,
        model: nn.Module,
        pretrained: Mapping[str, Tensor],
        directions: Directions,
        examples: Mapping[str, Examples],
    ) -> None:
        self.model = model.eval()
        self.directions = directions
        self.examples = dict(examples)
        self.names = tuple(directions.names)
        self.experts = tuple(directions.experts)
        own = dict(model.named_parameters())
        self._parameters = {name: own[name] for name in self.names}
        self._pretrained = {name: pretrained[name] for name in self.names}
        self._device = next(iter(own.values())).device

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that there are examples of."""
        return tuple(self.examples)

    def with_directions(
        self, directions: Directions, tasks: Iterable[str]
    ) -> "MergedModel":
        """Take other task vectors, for the same model.

        Args:
            directions: the task vectors.
            tasks: the tasks to learn from.

        Returns:
            A merged model that overwrites the same parameters.
        """
        examples = {task: self.examples[task] for task in tasks}
        return MergedModel(self.model, self._pretrained, directions, examples)

    def pooled(self) -> tuple[Examples, dict[str, int]]:
        """Put the examples of all tasks one after the other.

        Returns:
            The examples; the number of each task's first one among them.
        """
        sizes = [len(examples) for examples in self.examples.values()]
        firsts = itertools.accumulate(sizes[:-1], initial=0)
        pool = Concatenation([*self.examples.values()])
        return pool, dict(zip(self.examples, firsts, strict=True))

    def batch(self, examples: Examples, indices: Tensor) -> Batch:
        """Fetch examples to where the model is.

        Args:
            examples: some task's, or several tasks'.
            indices: which of them.

        Returns:
            The batch.
        """
        fetched = examples[indices]
        return {name: tensor.to(self._device) for name, tensor in fetched.items()}

    @torch.no_grad()
    def merge(self, coefficients: Coefficients) -> None:
        """Write the merged parameters into the model.

        Args:
            coefficients: c, in the order of `names` and `experts`.
        """
        for row, (name, parameter) in zip(
            coefficients, self._parameters.items(), strict=True
        ):
            vectors = self.directions.of(name)
            change = row.to(vectors) @ vectors
            before = self._pretrained[name].to(vectors)
            parameter.copy_(before + change.view(parameter.shape))

    def gradient(
        self,
        coefficients: Coefficients,
        loss: Callable[[nn.Module], Float[Tensor, ""]],
    ) -> tuple[float, Float64[Tensor, "tensor expert"]]:
        """Differentiate a loss with respect to the coefficients.

        Args:
            coefficients: where to differentiate; the model is merged with them.
            loss: gives a number for the model.

        Returns:
            The loss, and its gradient.
        """
        self.merge(coefficients)
        found = torch.zeros(len(self.names), len(self.experts), dtype=torch.float64)

        def reduce(number: int, name: str) -> Callable[[Tensor], None]:
            def hook(parameter: Tensor) -> None:
                assert parameter.grad is not None, "it has just been accumulated"
                vectors = self.directions.of(name)
                slope = parameter.grad.to(vectors).reshape(-1)
                found[number] += (vectors @ slope).double().cpu()
                parameter.grad = None

            return hook

        hooks = [
            parameter.register_post_accumulate_grad_hook(reduce(number, name))
            for number, (name, parameter) in enumerate(self._parameters.items())
        ]
        try:
            value = loss(self.model)
            value.backward()
        finally:
            for hook in hooks:
                hook.remove()
        return value.item(), found

    @torch.no_grad()
    def losses(
        self, examples: Examples, indices: Tensor, loss: Loss, most: int
    ) -> Float64[Tensor, " example"]:
        """Give the losses of examples, with the model as it is merged now.

        Args:
            examples: some task's, or several tasks'.
            indices: which of them.
            loss: the loss.
            most: how many examples go through the model at a time.

        Returns:
            One number for each example.
        """
        parts = [
            loss(self.model, self.batch(examples, part)).double().cpu()
            for part in indices.split(most)
        ]
        return torch.cat(parts)
