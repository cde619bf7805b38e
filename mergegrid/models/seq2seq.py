"""Sequence-to-sequence language models: T5, mT5 and their language-model-adapted kin.

The encoder reads a question and the decoder writes an answer. Parameter names are those
of transformers after `model.`; what is saved loads with `from_pretrained` too. All
parameters are merged, those that are tied once: T5's embeddings serve the encoder, the
decoder and, unless the configuration says otherwise, the layer that predicts tokens.
That layer is linear, so tied embeddings have the Gram matrix of its inputs; being
looked up has none.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional
from transformers.utils.generic import ModelOutput

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.likelihood import Positions, log_likelihood
from mergegrid.models.architectures import (
    check_architecture,
    read_architecture,
    save_architecture,
)
from mergegrid.models.family import Family
from mergegrid.models.hub_models import (
    create_model,
    described_config,
    open_model,
    save_model,
)
from mergegrid.models.tokens import (
    Row,
    Tokenizer,
    Tokens,
    as_tokens,
    load_tokenizer,
    word_tokenizer,
)
from mergegrid.suites.examples import Batch, Examples
from mergegrid.suites.padding import pad
from mergegrid.suites.texts import Text, Texts

AUTO: Any = transformers.AutoModelForSeq2SeqLM

KINDS = ("t5", "mt5")
"""Values of `model_type` with T5's layers."""

TIED = "tie_word_embeddings"
"""What a configuration says of T5's embeddings; transformers ties them whatever it
says, unless a checkpoint has an output layer of its own."""

CROSS_ATTENTION_INPUTS = ("EncDecAttention.k.weight", "EncDecAttention.v.weight")
"""Layers of the decoder that are given what the encoder makes of the question."""


class Seq2SeqArchitecture(BaseModel):
    """What `seq2seq` models are made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: dict[str, Any]
    """The configuration of transformers, as in `config.json`; `model_type` among it.
    With a `vocabulary`, its size and the special tokens follow from that."""

    prompt_tokens: int = Field(default=512, ge=1)
    """Most tokens of a question, the end included; the first are kept."""

    answer_tokens: int = Field(default=64, ge=1)
    """Most tokens of an answer, the end included."""

    choices: Positions = "sum"
    """How the log-likelihood of an answer choice is made of those of its tokens: `mean`
    is normalized by length."""

    beams: int = Field(default=1, ge=1)
    """Answers that are considered at a time in writing; 1 always takes the likeliest
    next token."""

    vocabulary: list[str] | None = None
    """The words of a tokenizer that has a token for each; None for the tokenizer of a
    published model."""


class Seq2SeqModel(nn.Module):
    """A T5 that answers questions.

    Args:
        model: what transformers makes.
        architecture: what it is made from.
        tokenizer: its tokenizer; None if it has none.
    """

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        architecture: Seq2SeqArchitecture,
        tokenizer: Tokenizer | None,
    ) -> None:
        super().__init__()
        # Plain operations, which have per-example gradients and known FLOPs.
        model.set_attn_implementation("eager")
        self.model: Any = model
        self.architecture = architecture
        self.tokenizer = tokenizer

    def forward(self, batch: Batch) -> Float[Tensor, "example position label"]:
        """Give the log-probability of every token at every position of the answer.

        Args:
            batch: `input` and `input_mask` [example, position], the question, padded
                anywhere; `label` [example, position], the answer, padded at the end.

        Returns:
            Log-probabilities, each given the question and the labels before it.
        """
        mask = self._encoder_mask(batch)
        return self._decode(self._encode(batch, mask), mask, batch["label"])

    def rank(self, batch: Batch) -> Float[Tensor, "example choice"]:
        """Score answer choices by their log-likelihood; a question is read once.

        Args:
            batch: see `forward`; `choice` [example, choice, position].

        Returns:
            Log-likelihoods, the sum over a choice's tokens or the mean, as the
            architecture says; minus infinity for choices without tokens.
        """
        mask = self._encoder_mask(batch)
        read = self._encode(batch, mask)
        scores = [
            log_likelihood(
                self._decode(read, mask, choice), choice, self.architecture.choices
            )
            for choice in batch["choice"].unbind(dim=1)
        ]
        is_one = (batch["choice"] >= 0).any(dim=2)
        return torch.stack(scores, dim=1).where(is_one, -torch.inf)

    def write(self, batch: Batch) -> list[str]:
        """Answer questions with the likeliest next token, or by beam search.

        Args:
            batch: see `forward`; `label` is not used.

        Returns:
            An answer for each, without special tokens and white space around it.
        """
        configured = self.model.config
        how = transformers.GenerationConfig(
            max_new_tokens=self.architecture.answer_tokens,
            num_beams=self.architecture.beams,
            do_sample=False,
            pad_token_id=configured.pad_token_id,
            eos_token_id=configured.eos_token_id,
            decoder_start_token_id=self._start,
        )
        written = self.model.generate(
            input_ids=batch["input"],
            attention_mask=batch["input_mask"].long(),
            generation_config=how,
        )
        answers = self._tokenizer().batch_decode(written, skip_special_tokens=True)
        return [answer.strip() for answer in answers]

    def token_mask(
        self, name: str, batch: Batch
    ) -> Bool[Tensor, "example position"] | None:
        """Tell padding from tokens.

        Args:
            name: a linear layer's weight.
            batch: what the model was given.

        Returns:
            True for the tokens among the layer's inputs: of the question in the encoder
            and where the decoder attends to it, elsewhere of the answer. None on the
            meta device, where a blank example has no values, and no padding.
        """
        if batch["label"].is_meta:
            return None
        of_question = name.startswith("model.encoder.")
        if of_question or name.endswith(CROSS_ATTENTION_INPUTS):
            return batch["input_mask"]
        return batch["label"] >= 0

    def encode(self, text: Text) -> Row:
        """Turn a question and its answers into tokens.

        Args:
            text: the question.

        Returns:
            `input`, `label` and, where the answer is chosen, `choice`; all of them end
            with the tokenizer's end.
        """
        most = self.architecture.answer_tokens
        row = {
            "input": self._tokens(text.prompt, self.architecture.prompt_tokens),
            "label": self._tokens(text.answers[0], most),
        }
        if text.choices:
            choices = [self._tokens(each, most) for each in text.choices]
            row["choice"] = pad("choice", choices)
        return row

    @property
    def _start(self) -> int:
        """The token before an answer, padding where T5's configuration says nothing."""
        configured = self.model.config
        start = getattr(configured, "decoder_start_token_id", None)
        return configured.pad_token_id if start is None else start

    def _tokens(self, text: str, most: int) -> Int[Tensor, " position"]:
        tokenizer = self._tokenizer()
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        if self.architecture.vocabulary and tokenizer.unk_token_id in ids:
            unknown = text.split()[ids.index(tokenizer.unk_token_id)]
            raise InputError(f"The word {unknown!r} is not in the model's vocabulary.")
        return as_tokens([*ids[: most - 1], tokenizer.eos_token_id])

    def _encoder_mask(self, batch: Batch) -> Float[Tensor, "example 1 1 position"]:
        """Give what is added to attention to the question.

        Made here, since transformers looks at the values of masks in making its own,
        and there are none under vmap or on the meta device.
        """
        mask = batch["input_mask"][:, None, None]
        zeros = torch.zeros_like(mask, dtype=self.model.dtype)
        return zeros.masked_fill(~mask, torch.finfo(self.model.dtype).min)

    def _encode(self, batch: Batch, mask: Tensor) -> ModelOutput:
        return self.model.encoder(input_ids=batch["input"], attention_mask=mask)

    def _decode(
        self, read: ModelOutput, mask: Tensor, labels: Int[Tensor, "example position"]
    ) -> Float[Tensor, "example position label"]:
        start = torch.full_like(labels[:, :1], self._start)
        before = torch.cat([start, labels[:, :-1].clamp(min=0)], dim=1)
        length, lowest = labels.shape[1], torch.finfo(mask.dtype).min
        causal = torch.full((1, 1, length, length), lowest, device=labels.device)
        logits = self.model(
            encoder_outputs=read,
            attention_mask=mask,
            decoder_input_ids=before,
            decoder_attention_mask=causal.triu(diagonal=1).to(mask.dtype),
            use_cache=False,
        ).logits
        return functional.log_softmax(logits, dim=-1)

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise InputError(
                "The model has no tokenizer: there was none beside it, and its "
                "architecture gives no vocabulary."
            )
        return self.tokenizer


class Seq2Seq(Family):
    """Sequence-to-sequence language models of transformers."""

    name = "seq2seq"

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
        tokenizer = _made_tokenizer(checked)
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
        tokenizer = _made_tokenizer(checked)
        config = _config(checked, tokenizer)
        model: Any = open_model(AUTO, directory, config)
        # Not the other way round: transformers says tied of all that it stores.
        if model.lm_head.weight is model.shared.weight and not _is_tied(checked):
            raise InputError(
                f"{directory} holds a model of another architecture: its output layer "
                f"is its embeddings; leave out {TIED}: false."
            )
        return Seq2SeqModel(model, checked, tokenizer or load_tokenizer(directory))

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
            architecture: see `Seq2SeqArchitecture`.

        Returns:
            Tokens 0 for a question and its answer.
        """
        checked = check_architecture(Seq2SeqArchitecture, architecture)
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
        save_model(own.model, directory)
        if own.tokenizer is not None:
            own.tokenizer.save_pretrained(directory)
        save_architecture(directory, self.name, own.architecture.model_dump())

    def load(self, directory: Path) -> Seq2SeqModel:
        """Open a model to be fine-tuned, measured, merged or evaluated.

        Args:
            directory: where `save` wrote it.

        Returns:
            The model, all of whose parameters require gradients.
        """
        model = self.import_model(directory, read_architecture(directory, self.name))
        self.freeze(model)
        return model.eval()


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


def _made_tokenizer(architecture: Seq2SeqArchitecture) -> Tokenizer | None:
    words = architecture.vocabulary
    return None if words is None else word_tokenizer(words)


def _is_tied(architecture: Seq2SeqArchitecture) -> bool:
    return architecture.config.get(TIED) is not False


def _own(model: nn.Module) -> Seq2SeqModel:
    if not isinstance(model, Seq2SeqModel):
        raise TypeError(f"{type(model).__name__} is no sequence-to-sequence model.")
    return model


FAMILY = Seq2Seq()
