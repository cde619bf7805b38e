"""Decoder-only language models: LLaMA, GPT-2, Qwen and whatever else transformers has.

What is saved loads with `from_pretrained` too. Layers that GPT-2 holds transposed are
turned while a model is in memory, so that every weight is [d_out, d_in].
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from mergegrid.models.architectures import (
    check_architecture,
    read_architecture,
    save_architecture,
)
from mergegrid.models.causal_model import CausalArchitecture, CausalModel
from mergegrid.models.family import Family
from mergegrid.models.hub_models import (
    create_model,
    described_config,
    open_model,
    save_model,
)
from mergegrid.models.tokens import Tokenizer, Tokens, load_tokenizer, word_tokenizer
from mergegrid.suites.examples import Batch, Examples
from mergegrid.suites.texts import Texts

AUTO: Any = transformers.AutoModelForCausalLM


class Causal(Family):
    """Decoder-only language models of transformers."""

    name = "causal"

    def create(self, architecture: Mapping[str, Any], *, seed: int) -> CausalModel:
        """Make a model with random parameters, all of them trainable.

        Args:
            architecture: see `CausalArchitecture`.
            seed: decides the parameters.

        Returns:
            The model, ready to be pretrained.
        """
        checked = check_architecture(CausalArchitecture, architecture)
        config, tokenizer = _with_vocabulary(checked)
        model = create_model(AUTO, config, seed=seed)
        return CausalModel(model, checked, tokenizer)

    def import_model(
        self, directory: Path, architecture: Mapping[str, Any]
    ) -> CausalModel:
        """Open a published model.

        Args:
            directory: as `save_pretrained` of transformers writes it, with or without
                a tokenizer.
            architecture: see `CausalArchitecture`; what it says of the configuration
                must be so.

        Returns:
            The model, all of it trainable.
        """
        checked = check_architecture(CausalArchitecture, architecture)
        model = open_model(AUTO, directory, checked.config)
        words = checked.vocabulary
        tokenizer = (
            load_tokenizer(directory) if words is None else word_tokenizer(words)
        )
        return CausalModel(model, checked, tokenizer)

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
            architecture: see `CausalArchitecture`.

        Returns:
            Tokens 0 for a question and its answer.
        """
        checked = check_architecture(CausalArchitecture, architecture)
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
        own = _own(model)
        return Tokens(examples, own.encode) if isinstance(examples, Texts) else examples

    def freeze(self, model: nn.Module) -> None:
        """Leave the merged parameters to be trained, which are all.

        Args:
            model: one that this family made.
        """
        _own(model).requires_grad_(requires_grad=True)

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write a model as the hub stores it, and what it does not say beside it.

        Args:
            model: one that this family made.
            directory: where to; an existing directory.
        """
        own = _own(model)
        parameters = dict(own.model.state_dict())
        for name in own.turned:
            parameters[name] = parameters[name].T.contiguous()
        save_model(own.model, directory, parameters)
        if own.tokenizer is not None:
            own.tokenizer.save_pretrained(directory)
        save_architecture(directory, self.name, own.architecture.model_dump())

    def load(self, directory: Path) -> CausalModel:
        """Open a model to be fine-tuned, measured, merged or evaluated.

        Args:
            directory: where `save` wrote it.

        Returns:
            The model, all of whose parameters require gradients.
        """
        architecture = read_architecture(directory, self.name)
        model = self.import_model(directory, architecture)
        self.freeze(model)
        return model.eval()


def _with_vocabulary(
    architecture: CausalArchitecture,
) -> tuple[dict[str, Any], Tokenizer | None]:
    """Give the configuration with what follows from a vocabulary, and its tokenizer."""
    if architecture.vocabulary is None:
        return architecture.config, None
    tokenizer = word_tokenizer(architecture.vocabulary)
    follows = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    return architecture.config | follows, tokenizer


def _own(model: nn.Module) -> CausalModel:
    if not isinstance(model, CausalModel):
        raise TypeError(f"{type(model).__name__} is no causal language model.")
    return model


FAMILY = Causal()
