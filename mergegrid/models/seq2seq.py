"""Sequence-to-sequence language models: T5, mT5 and their language-model-adapted kin.

All parameters are merged, those that are tied once: T5's embeddings serve the encoder,
the decoder and, unless the configuration says otherwise, the layer that predicts
tokens. As embeddings they have no Gram matrix; an output layer of its own has one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.models.architectures import check_architecture
from mergegrid.models.hub_models import create_model, open_model
from mergegrid.models.language import LanguageFamily
from mergegrid.models.seq2seq_model import Seq2SeqArchitecture, Seq2SeqModel
from mergegrid.models.tokens import Tokenizer, load_tokenizer

AUTO: Any = transformers.AutoModelForSeq2SeqLM

KINDS = ("t5", "mt5")
"""Values of `model_type` with T5's layers."""

TIED = "tie_word_embeddings"
"""What a configuration says of T5's embeddings; transformers ties them whatever it
says, unless a checkpoint has an output layer of its own."""


class Seq2Seq(LanguageFamily):
    """Sequence-to-sequence language models of transformers."""

    name = "seq2seq"
    schema = Seq2SeqArchitecture
    kind = Seq2SeqModel

    def create(self, architecture: Mapping[str, Any], *, seed: int) -> Seq2SeqModel:
        """Make a model with random parameters, all of them trainable.

        Args:
            architecture: see `Seq2SeqArchitecture`.
            seed: decides the parameters.

        Returns:
            The model, ready to be pretrained.

        Raises:
            InputError: if the architecture is not one.
        """
        checked = check_architecture(Seq2SeqArchitecture, architecture)
        tokenizer = checked.word_tokenizer()
        model: Any = create_model(AUTO, _config(checked, tokenizer), seed=seed)
        if not _is_tied(checked):
            generator = torch.Generator().manual_seed(seed)
            values = torch.randn(model.lm_head.weight.shape, generator=generator)
            model.lm_head.weight = nn.Parameter(values.to(model.device))
        return Seq2SeqModel(model, checked, tokenizer)

    def import_model(
        self, directory: Path, architecture: Mapping[str, Any]
    ) -> Seq2SeqModel:
        """Open a published model.

        Args:
            directory: as `save_pretrained` of transformers writes it, with or without
                a tokenizer.
            architecture: see `Seq2SeqArchitecture`; what it says of the configuration
                must be so.

        Returns:
            The model, all of it trainable.

        Raises:
            InputError: if it is no such model.
        """
        checked = check_architecture(Seq2SeqArchitecture, architecture)
        tokenizer = checked.word_tokenizer()
        config = _config(checked, tokenizer)
        model: Any = open_model(AUTO, directory, config)
        # Not the other way round: transformers says tied of all that it stores.
        if model.lm_head.weight is model.shared.weight and not _is_tied(checked):
            raise InputError(
                f"{directory} holds a model of another architecture: its output layer "
                f"is its embeddings; leave out {TIED}: false."
            )
        return Seq2SeqModel(model, checked, tokenizer or load_tokenizer(directory))


def _config(
    architecture: Seq2SeqArchitecture, tokenizer: Tokenizer | None
) -> dict[str, Any]:
    """Give the configuration, with what follows from a vocabulary.

    Raises:
        UnknownNameError: if it is for another kind of model.
    """
    kind = architecture.config.get("model_type")
    if kind not in KINDS:
        raise UnknownNameError("model_type for seq2seq", str(kind), KINDS)
    if tokenizer is None:
        return architecture.config
    return architecture.config | {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }


def _is_tied(architecture: Seq2SeqArchitecture) -> bool:
    return architecture.config.get(TIED) is not False


FAMILY = Seq2Seq()
