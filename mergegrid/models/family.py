"""What a model family offers, so that methods, suites and statistics need no other."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from mergegrid.errors import InputError, LayoutError
from mergegrid.parameters import Parameters
from mergegrid.suites.examples import Batch, Examples


class Family(Protocol):
    """Makes, stores and opens the models of one family.

    A model is a module whose `forward(batch)` returns log-probabilities [example,
    *position, label], each example's from that example alone: of classes, one set for
    an example; of tokens, one for each position of its answer, given the tokens before.
    The gold labels are `batch["label"]` [example, *position], and negative where there
    is none. A model whose answers are scored by other metrics than accuracy also has
    what those metrics ask for (`mergegrid.metrics`), and one that pads its inputs has a
    `token_mask` (`mergegrid.statistics.gram`).
    """

    name: str
    """Its name in suites and rows."""

    def create(self, architecture: Mapping[str, Any], *, seed: int) -> nn.Module:
        """Make a model with random parameters, all of them trainable.

        Args:
            architecture: plain values, as the family reads them; a suite gives them.
            seed: decides the parameters.

        Returns:
            The model, ready to be pretrained.
        """
        ...

    def import_model(
        self, directory: Path, architecture: Mapping[str, Any]
    ) -> nn.Module:
        """Open a published model.

        Args:
            directory: in the format of its hub.
            architecture: see `create`; what the model is expected to be.

        Returns:
            The model, all of it trainable.

        Raises:
            InputError: if it is no model of this family and architecture.
        """
        ...

    def import_expert(
        self, directory: Path, architecture: Mapping[str, Any], pretrained: nn.Module
    ) -> Parameters:
        """Open a published expert.

        Args:
            directory: in the format of its hub.
            architecture: see `create`.
            pretrained: what it was fine-tuned from, as loaded.

        Returns:
            Its merged parameters.

        Raises:
            InputError: if it is no expert of that pretrained model.
        """
        expert = self.import_model(directory, architecture)
        self.freeze(expert)
        parameters = self.merged_parameters(expert)
        self.check_parameters(pretrained, parameters, str(directory))
        return parameters

    def describe(
        self, files: Mapping[str, str], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Complete an architecture by what a published model says about itself.

        Args:
            files: the text of its JSON files by name.
            given: what they do not say.

        Returns:
            The architecture, as `create` takes it.

        Raises:
            InputError: if they describe no model of this family.
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

    def encode(self, model: nn.Module, examples: Examples) -> Examples:
        """Turn a suite's examples into what a model takes.

        Args:
            model: one of this family, such as its tokenizer is needed.
            examples: as the suite gives them: tensors already, or texts.

        Returns:
            Examples whose batches the model's `forward` takes.
        """
        del model
        return examples

    def freeze(self, model: nn.Module) -> None:
        """Leave only the merged parameters to be trained, and fix everything else.

        Args:
            model: one that this family made.
        """
        ...

    def adapting(self, model: nn.Module, *, seed: int) -> AbstractContextManager[None]:
        """Have a model as it is fine-tuned, where that differs from what is merged.

        Args:
            model: a loaded model.
            seed: decides whatever is drawn.

        Returns:
            A block in which the parameters that require gradients are those to be
            trained; at its end the merged parameters have changed accordingly.
        """
        del model, seed
        return nullcontext()

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

    def save_adapter(
        self, model: nn.Module, pretrained: Parameters, directory: Path, *, rank: int
    ) -> float:
        """Write a merged model as an adapter, and give the relative error of that.

        The error is |changes - what the adapter makes of them| / |changes|, changes
        being those from the pretrained model, in Frobenius norm over all weights.

        Args:
            model: the merged model.
            pretrained: the pretrained model's merged parameters.
            directory: where to; an existing directory.
            rank: to which every weight's change is cut.

        Raises:
            InputError: if the family has no adapters.
        """
        del model, pretrained, directory, rank
        raise InputError(f"Models of the family {self.name} have no adapters.")

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
        self.check_parameters(model, parameters, "the given parameters")
        for name, tensor in self.merged_parameters(model).items():
            tensor.copy_(parameters[name])

    def check_parameters(
        self, model: nn.Module, parameters: Parameters, given: str
    ) -> None:
        """Check that values fit a model's merged parameters.

        Args:
            model: a loaded model.
            parameters: values by name.
            given: what they are, for messages.

        Raises:
            LayoutError: if a name or a shape differs.
        """
        own = self.merged_parameters(model)
        for name in sorted(own.keys() ^ parameters.keys()):
            where = "the model" if name in own else given
            raise LayoutError(f"Only {where} has the parameter {name!r}.")
        for name, tensor in own.items():
            if tensor.shape != parameters[name].shape:
                raise LayoutError(
                    f"{name!r} has shape {tuple(tensor.shape)} in the model, but "
                    f"{tuple(parameters[name].shape)} in {given}."
                )
