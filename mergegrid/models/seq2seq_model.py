"""Sequence-to-sequence language models that answer questions.

The encoder reads a question and the decoder writes an answer.
"""

import torch
import transformers
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from transformers.utils.generic import ModelOutput

from mergegrid.errors import InputError
from mergegrid.likelihood import log_likelihood
from mergegrid.models.language import LanguageArchitecture, LanguageModel
from mergegrid.models.tokens import Row, Tokenizer, as_tokens
from mergegrid.suites.examples import Batch
from mergegrid.suites.padding import pad
from mergegrid.suites.texts import Text

CROSS_ATTENTION_INPUTS = ("EncDecAttention.k.weight", "EncDecAttention.v.weight")
"""Layers of the decoder that are given what the encoder makes of the question."""


class Seq2SeqArchitecture(LanguageArchitecture):
    """What `seq2seq` models are made from; of questions the first tokens are kept.

    Most tokens count the end of a question or an answer.
    """

    beams: int = Field(default=1, ge=1)
    """Answers that are considered at a time in writing; 1 always takes the likeliest
    next token."""


class Seq2SeqModel(LanguageModel[Seq2SeqArchitecture]):
    """A T5 that answers questions; see `LanguageModel`."""

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        architecture: Seq2SeqArchitecture,
        tokenizer: Tokenizer | None,
    ) -> None:
        # Plain operations, which have per-example gradients and known FLOPs.
        model.set_attn_implementation("eager")
        super().__init__(model, architecture, tokenizer)

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
        answers = self.needed_tokenizer().batch_decode(
            written, skip_special_tokens=True
        )
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
        tokenizer = self.needed_tokenizer()
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
