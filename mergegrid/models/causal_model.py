"""Decoder-only language models that answer questions.

The model reads a question, and an answer continues it. Parameter names are those of
transformers after `model.`.
"""

import inspect
from typing import Any

import torch
import transformers
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mergegrid.likelihood import log_likelihood
from mergegrid.models.hub_models import quiet, turn_layers
from mergegrid.models.language import LanguageArchitecture, LanguageModel
from mergegrid.models.tokens import Row, Tokenizer, as_tokens
from mergegrid.suites.examples import Batch
from mergegrid.suites.padding import pad
from mergegrid.suites.texts import Text


class CausalArchitecture(LanguageArchitecture):
    """What `causal` models are made from; of questions the last tokens are kept."""

    separator: str = " "
    """What stands between a question and its answer."""

    end: bool = True
    """Whether an answer, and every answer choice, ends with the tokenizer's end."""


class CausalModel(LanguageModel[CausalArchitecture]):
    """A decoder-only language model that answers questions; see `LanguageModel`."""

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        architecture: CausalArchitecture,
        tokenizer: Tokenizer | None,
    ) -> None:
        super().__init__(model, architecture, tokenizer)
        self.turned = turn_layers(model)
        takes = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in takes
        self._takes_kept = "logits_to_keep" in takes
        self._attention: str = self.model.config._attn_implementation
        self._fast_attention = self._attention

    def stored_parameters(self) -> dict[str, Tensor]:
        """Give the parameters as the hub stores them, layers turned back.

        Returns:
            Values by the names of transformers.
        """
        stored = super().stored_parameters()
        return stored | {name: stored[name].T.contiguous() for name in self.turned}

    def forward(self, batch: Batch) -> Float[Tensor, "example position label"]:
        """Give the log-probability of every token at every position of the answer.

        Args:
            batch: `input` and `input_mask` [example, position], the question, padded
                anywhere; `label` [example, position], the answer.

        Returns:
            Log-probabilities, each given the question and the labels before it.
        """
        labels = batch["label"]
        ids, mask = _to_the_right(batch["input"], batch["input_mask"])
        ids = torch.cat([ids, labels[:, :-1].clamp(min=0)], dim=1)
        mask = torch.cat([mask, labels[:, 1:] >= 0], dim=1)
        logits = self._logits(ids, mask, labels.shape[1])
        return functional.log_softmax(logits, dim=-1)

    def rank(self, batch: Batch) -> Float[Tensor, "example choice"]:
        """Score answer choices by their log-likelihood.

        Args:
            batch: see `forward`; `choice` [example, choice, position].

        Returns:
            Log-likelihoods, the sum over a choice's tokens or the mean, as the
            architecture says; minus infinity for choices without tokens.
        """
        choices = batch["choice"]
        count = choices.shape[1]
        labels = choices.flatten(0, 1)
        each = {
            "input": batch["input"].repeat_interleave(count, dim=0),
            "input_mask": batch["input_mask"].repeat_interleave(count, dim=0),
            "label": labels,
        }
        likelihoods = log_likelihood(self(each), labels, self.architecture.choices)
        is_one = (labels >= 0).any(dim=1)
        return likelihoods.where(is_one, -torch.inf).view(-1, count)

    def write(self, batch: Batch) -> list[str]:
        """Answer questions, always with the likeliest next token.

        Args:
            batch: see `forward`; `label` is not used.

        Returns:
            An answer for each, without special tokens and white space around it.
        """
        tokenizer = self.needed_tokenizer()
        end = tokenizer.eos_token_id
        ids, mask = _to_the_right(batch["input"], batch["input_mask"])
        greedy = transformers.GenerationConfig(
            max_new_tokens=self.architecture.answer_tokens,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=0 if end is None else end,
        )
        with quiet():
            written = self.model.generate(
                input_ids=ids, attention_mask=mask.long(), generation_config=greedy
            )
        answers = tokenizer.batch_decode(
            written[:, ids.shape[1] :], skip_special_tokens=True
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
            True for the tokens among the layer's inputs: question and answer but its
            last token, or, of the layer that predicts tokens, where there is one to
            predict. None on the meta device, where a blank example has no values, and
            no padding.
        """
        labels = batch["label"]
        if labels.is_meta:
            return None
        if self._takes_kept and name == self._head():
            return labels >= 0
        _, mask = _to_the_right(batch["input"], batch["input_mask"])
        return torch.cat([mask, labels[:, 1:] >= 0], dim=1)

    def encode(self, text: Text) -> Row:
        """Turn a question and its answers into tokens.

        Args:
            text: the question.

        Returns:
            `input`, `label` and, where the answer is chosen, `choice`; the answer's
            tokens are those that it has after the question.
        """
        given = self._unended(text.prompt)
        tokenizer = self.needed_tokenizer()
        starts = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
        start = next(each for each in starts if each is not None)
        row = {
            "input": as_tokens((given or [start])[-self.architecture.prompt_tokens :]),
            "label": self._answer(text, text.answers[0], len(given)),
        }
        if text.choices:
            choices = [self._answer(text, each, len(given)) for each in text.choices]
            row["choice"] = pad("choice", choices)
        return row

    def _answer(self, text: Text, answer: str, given: int) -> Int[Tensor, " position"]:
        is_own = text.separator is None
        separator = self.architecture.separator if is_own else text.separator
        ids = self._unended(f"{text.prompt}{separator}{answer}")[given:]
        end = self.needed_tokenizer().eos_token_id
        if is_own and self.architecture.end and end is not None:
            ids.append(end)
        return as_tokens(ids[: self.architecture.answer_tokens])

    def _unended(self, text: str) -> list[int]:
        # Some tokenizers end every text, which would keep an answer from continuing it.
        tokenizer = self.needed_tokenizer()
        ids: list[int] = tokenizer(text).input_ids
        while ids and ids[-1] == tokenizer.eos_token_id:
            ids.pop()
        return ids

    def _logits(
        self, ids: Int[Tensor, "example position"], mask: Tensor, kept: int
    ) -> Float[Tensor, "example kept label"]:
        # Gradients in evaluation mode are per-example gradients, taken under vmap. It
        # has no rule for fused kernels, nor has it values to choose a kernel by, as
        # there are none on the meta device.
        per_example = torch.is_grad_enabled() and not self.training
        explicit = per_example or ids.is_meta
        self._attend("eager" if explicit else self._fast_attention)
        options: dict[str, Any] = {"logits_to_keep": kept} if self._takes_kept else {}
        if self._takes_positions:
            options["position_ids"] = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        logits = self.model(
            input_ids=ids, attention_mask=mask, use_cache=False, **options
        ).logits
        return logits[:, -kept:]

    def _attend(self, implementation: str) -> None:
        if implementation != self._attention:
            self.model.set_attn_implementation(implementation)
            self._attention = implementation

    def _head(self) -> str | None:
        head = self.model.get_output_embeddings()
        named = self.named_parameters()
        return next(
            (n for n, p in named if head is not None and p is head.weight), None
        )


def _to_the_right(
    ids: Int[Tensor, "example position"], mask: Bool[Tensor, "example position"]
) -> tuple[Tensor, Tensor]:
    """Move tokens to the end of their rows, so that answers follow all questions."""
    order = mask.int().argsort(dim=1, stable=True)
    return ids.gather(1, order), mask.gather(1, order)
