"""What a model family offers, so that methods, suites and statistics need no other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from mergegrid.errors import LayoutError
from mergegrid.parameters import Parameters
from mergegrid.suites.examples import Batch


class Family(Protocol):
    """Makes, stores and opens the models of one family.

    A model is a module whose `forward(batch)` returns log-probabilities
    [example, label]; training minimizes the mean negative log-probability of the label.
    """

    name: str
    """Its name in suites and rows."""

    def create(
        self, architecture: Mapping[str, Any], prompts: Sequence[str], *, seed: int
    ) -> nn.Module:
        """Make a model with random parameters, all of them trainable.

        Args:
            architecture: plain values, as the family reads them.
            prompts: one for each label.
            seed: decides the parameters.

        Returns:
            The model, ready to be pretrained.
        """
        ...

    def example(self, architecture: Mapping[str, Any]) -> Batch:
        """Make a batch of one blank example, to count what an example costs.

        Args:
            architecture: see `create`.

        Returns:
            The batch.
        """
        ...

    def freeze(self, model: nn.Module) -> None:
        """Leave only the merged parameters to be trained, and fix everything else.

        Args:
            model: one that this family made.
        """
        ...

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write a model: `model.safetensors`, and `config.json` for everything else.

        Args:
            model: one that this family made.
            directory: where to; an existing directory.
        """
        ...

    def load(self, directory: Path) -> nn.Module:
        """Open a model to be fine-tuned, measured, merged or evaluated.

        Args:
            directory: where `save` wrote it.

        Returns:
            The model, in which exactly the merged parameters require gradients; the
            classifier is computed once and frozen.
        """
        ...

    def merged_parameters(self, model: nn.Module) -> dict[str, Tensor]:
        """Give the parameters that are fine-tuned and merged.

        Args:
            model: a loaded model.

        Returns:
            Those that require gradients, by name; detached, sharing memory.
        """
        return {
            name: parameter.detach()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }

    def set_parameters(self, model: nn.Module, parameters: Parameters) -> None:
        """Copy values into a model's merged parameters, in place.

        Args:
            model: a loaded model; on any device, in any floating dtype.
            parameters: a value for every merged parameter, and no others.

        Raises:
            LayoutError: if a name or a shape differs; the model is left as it was.
        """
        own = self.merged_parameters(model)
        for name in sorted(own.keys() ^ parameters.keys()):
            where = "the model" if name in own else "the given parameters"
            raise LayoutError(f"Only {where} has the parameter {name!r}.")
        for name, tensor in own.items():
            if tensor.shape != parameters[name].shape:
                raise LayoutError(
                    f"{name!r} has shape {tuple(tensor.shape)} in the model, but "
                    f"{tuple(parameters[name].shape)} in the given parameters."
                )
        for name, tensor in own.items():
            tensor.copy_(parameters[name])
