"""What families of language models share: texts in, models of transformers inside.

Parameter names are those of transformers after `model.`; what is saved loads with
`from_pretrained` too. All parameters are merged, those that are tied once.
"""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import transformers
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mergegrid.errors import InputError
from mergegrid.likelihood import Positions
from mergegrid.models.architectures import (
    check_architecture,
    read_architecture,
    save_architecture,
)
from mergegrid.models.family import Family
from mergegrid.models.hub_models import described_config, save_model
from mergegrid.models.tokens import Row, Tokenizer, Tokens, word_tokenizer
from mergegrid.suites.examples import Batch, Examples
from mergegrid.suites.texts import Text, Texts


class LanguageArchitecture(BaseModel):
    """What language models are made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: dict[str, Any]
    """The configuration of transformers, as in `config.json`; `model_type` among it.
    With a `vocabulary`, its size and the special tokens follow from that."""

    prompt_tokens: int = Field(default=512, ge=1)
    """Most tokens of a question."""

    answer_tokens: int = Field(default=64, ge=1)
    """Most tokens of an answer."""

    choices: Positions = "sum"
    """How the log-likelihood of an answer choice is made of those of its tokens: `mean`
    is normalized by length."""

    vocabulary: list[str] | None = None
    """The words of a tokenizer that has a token for each; None for the tokenizer of a
    published model."""

    def word_tokenizer(self) -> Tokenizer | None:
        """Make the tokenizer of its vocabulary.

        Returns:
            The tokenizer; None without a vocabulary.
        """
        return None if self.vocabulary is None else word_tokenizer(self.vocabulary)


Built = TypeVar("Built", bound=LanguageArchitecture)


class LanguageModel(nn.Module, Generic[Built]):
    """A language model that answers questions.

    Args:
        model: what transformers makes.
        architecture: what it is made from.
        tokenizer: its tokenizer; None if it has none.
    """

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        architecture: Built,
        tokenizer: Tokenizer | None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.architecture = architecture
        self.tokenizer = tokenizer

    @abstractmethod
    def encode(self, text: Text) -> Row:
        """Turn a question and its answers into tokens.

        Args:
            text: the question.

        Returns:
            `input`, `label` and, where the answer is chosen, `choice`.
        """

    def stored_parameters(self) -> dict[str, Tensor]:
        """Give the parameters as the hub stores them.

        Returns:
            Values by the names of transformers.
        """
        return dict(self.model.state_dict())

    def needed_tokenizer(self) -> Tokenizer:
        """Give the tokenizer.

        Returns:
            The tokenizer.

        Raises:
            InputError: if there is none.
        """
        if self.tokenizer is None:
            raise InputError(
                "The model has no tokenizer: there was none beside it, and its "
                "architecture gives no vocabulary."
            )
        return self.tokenizer


class LanguageFamily(Family):
    """A family of language models."""

    schema: type[LanguageArchitecture]
    """What its models are made from."""

    kind: type[LanguageModel[Any]]
    """Its models."""

    def describe(
        self, files: Mapping[str, str], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Complete an architecture by what a published model says about itself.

        Args:
            files: the text of its JSON files by name.
            given: what they do not say.

        Returns:
            The architecture, as `create` takes it.
        """
        return {"config": described_config(files), **given}

    def example(self, architecture: Mapping[str, Any]) -> Batch:
        """Make a batch of one blank example, as long as one can be.

        Args:
            architecture: see `schema`.

        Returns:
            Tokens 0 for a question and its answer.
        """
        checked = check_architecture(self.schema, architecture)
        question = torch.zeros(1, checked.prompt_tokens, dtype=torch.int64)
        return {
            "input": question,
            "input_mask": torch.ones_like(question, dtype=torch.bool),
            "label": torch.zeros(1, checked.answer_tokens, dtype=torch.int64),
        }

    def encode(self, model: nn.Module, examples: Examples) -> Examples:
        """Turn texts into tokens.

        Args:
            model: one of this family, with its tokenizer.
            examples: texts, or tokens already.

        Returns:
            Tokens.
        """
        own = self._own(model)
        return Tokens(examples, own.encode) if isinstance(examples, Texts) else examples

    def freeze(self, model: nn.Module) -> None:
        """Leave the merged parameters to be trained, which are all.

        Args:
            model: one that this family made.
        """
        self._own(model).requires_grad_(requires_grad=True)

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write a model as the hub stores it, and what it does not say beside it.

        Args:
            model: one that this family made.
            directory: where to; an existing directory.
        """
        own = self._own(model)
        save_model(own.model, directory, own.stored_parameters())
        if own.tokenizer is not None:
            own.tokenizer.save_pretrained(directory)
        save_architecture(directory, self.name, own.architecture.model_dump())

    def load(self, directory: Path) -> nn.Module:
        """Open a model to be fine-tuned, measured, merged or evaluated.

        Args:
            directory: where `save` wrote it.

        Returns:
            The model, all of whose parameters require gradients.
        """
        model = self.import_model(directory, read_architecture(directory, self.name))
        self.freeze(model)
        return model.eval()

    def _own(self, model: nn.Module) -> LanguageModel[Any]:
        if not isinstance(model, self.kind):
            raise TypeError(f"{type(model).__name__} is no {self.kind.__name__}.")
        return model
