"""Texts as tokens: what every family of language models shares."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from tokenizers import Tokenizer as Fast
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mergegrid.errors import InputError
from mergegrid.metrics import References
from mergegrid.suites.examples import Batch, shared_names
from mergegrid.suites.padding import pad
from mergegrid.suites.texts import Text, Texts

Tokenizer: TypeAlias = Any
"""A tokenizer of transformers, whose types say nothing."""

Row: TypeAlias = Mapping[str, Tensor]
"""One example: `input`, `label` and perhaps `choice`, of token ids."""


class Tokens:
    """Texts as token ids, padded to the longest in each batch.

    Args:
        texts: the texts.
        encode: turns one of them into token ids: `input` [position], `label`
            [position], and where the answer is chosen, `choice` [choice, position].
    """

    def __init__(self, texts: Texts, encode: Callable[[Text], Row]) -> None:
        self._texts = texts[:]
        self._encode = encode
        self._rows: dict[int, Batch] = {}

    def __len__(self) -> int:
        """Count the texts."""
        return len(self._texts)

    def __getitem__(self, indices: Tensor | slice) -> Batch:
        """Give some of the examples, in the order asked for."""
        if isinstance(indices, slice):
            indices = torch.arange(len(self))[indices]
        rows = [self._row(index) for index in indices.tolist()]
        if not rows:
            return {}
        names = shared_names(rows)
        return {name: pad(name, [row[name] for row in rows]) for name in names}

    def references(self, indices: slice) -> References:
        """Give the acceptable answers of some examples, in order."""
        return [text.answers for text in self._texts[indices]]

    def _row(self, index: int) -> Batch:
        if index not in self._rows:
            text = self._texts[index]
            row = dict(self._encode(text))
            row["input_mask"] = torch.ones(len(row["input"]), dtype=torch.bool)
            row["template"] = torch.tensor(text.template)
            if text.choices:
                row["answer"] = torch.tensor(text.choices.index(text.answers[0]))
                row["characters"] = torch.tensor([len(each) for each in text.choices])
                row["bytes"] = torch.tensor([len(c.encode()) for c in text.choices])
            self._rows[index] = row
        return self._rows[index]


def as_tokens(ids: Sequence[int]) -> Tensor:
    """Make token ids a tensor.

    Args:
        ids: token ids.

    Returns:
        They, [position].
    """
    return torch.tensor(list(ids), dtype=torch.int64)


PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
"""The special tokens of a tokenizer made from words, numbered as T5's are."""


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """Make a tokenizer that has a token for each word between white space.

    Args:
        words: the words; all others are unknown.

    Returns:
        The tokenizer: `PAD`, `END` and `UNKNOWN` are 0, 1 and 2, then come the words.
    """
    number = {word: index for index, word in enumerate((PAD, END, UNKNOWN, *words))}
    fast = Fast(WordLevel(number, unk_token=UNKNOWN))
    split: Any = WhitespaceSplit()
    fast.pre_tokenizer = split
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token=PAD, eos_token=END, unk_token=UNKNOWN
    )


def load_tokenizer(directory: Path) -> Tokenizer | None:
    """Open the tokenizer that lies beside a model.

    Args:
        directory: the model's directory.

    Returns:
        The tokenizer; None if there is none.

    Raises:
        InputError: if it is damaged.
    """
    if not (directory / "tokenizer_config.json").is_file():
        return None
    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"The tokenizer in {directory} cannot be read: {first}"
        ) from None
