"""Decoder-only language models: LLaMA, GPT-2, Qwen and whatever else transformers has.

What is saved loads with `from_pretrained` too. Layers that GPT-2 holds transposed are
turned while a model is in memory, so that every weight is [d_out, d_in].
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from mergegrid.models.architectures import check_architecture
from mergegrid.models.causal_model import CausalArchitecture, CausalModel
from mergegrid.models.hub_models import create_model, open_model
from mergegrid.models.language import LanguageFamily
from mergegrid.models.tokens import Tokenizer, load_tokenizer

AUTO: Any = transformers.AutoModelForCausalLM


class Causal(LanguageFamily):
    """Decoder-only language models of transformers."""

    name = "causal"
    schema = CausalArchitecture
    kind = CausalModel

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
        tokenizer = checked.word_tokenizer() or load_tokenizer(directory)
        return CausalModel(model, checked, tokenizer)


def _with_vocabulary(
    architecture: CausalArchitecture,
) -> tuple[dict[str, Any], Tokenizer | None]:
    """Give the configuration with what follows from a vocabulary, and its tokenizer."""
    tokenizer = architecture.word_tokenizer()
    if tokenizer is None:
        return architecture.config, None
    follows = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    return architecture.config | follows, tokenizer


FAMILY = Causal()
