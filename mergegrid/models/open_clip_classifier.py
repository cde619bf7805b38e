"""A CLIP model that says which of its classes an image shows.

The classifier is made of the text tower's embeddings of every class's prompts, as in
the papers on merging CLIP models; the vision tower is what experts train and merges
merge. Parameter names are those of `open_clip.CustomTextCLIP`, so that a saved model is
open_clip's too.
"""

import functools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional

from mergegrid.models.open_clip_architecture import read_architecture
from mergegrid.suites.examples import Batch

PROMPTS_AT_ONCE = 512
"""The text tower embeds at most so many prompts at a time."""


def tokenize(prompts: Sequence[str]) -> Int[Tensor, "prompt position"]:
    """Number the words of prompts by a vocabulary made of these prompts alone.

    Args:
        prompts: words between white space; letter case is ignored.

    Returns:
        For each prompt its words' numbers, from 1 in alphabetical order, then the
        end token, the greatest number, then zeros up to the longest prompt's length.
    """
    words = [prompt.lower().split() for prompt in prompts]
    vocabulary = sorted({word for prompt in words for word in prompt})
    number = {word: index for index, word in enumerate(vocabulary, start=1)}
    end = len(vocabulary) + 1
    tokens = torch.zeros(len(words), 1 + max(map(len, words)), dtype=torch.int64)
    for row, prompt in zip(tokens, words, strict=True):
        row[: len(prompt) + 1] = torch.tensor([*(number[w] for w in prompt), end])
    return tokens


class ClipClassifier(nn.Module):
    """An open_clip model and the classes that it tells apart.

    Args:
        architecture: see `mergegrid.models.open_clip_architecture`. With the tokenizer
            `words`, the size of the vocabulary and the length of the context are taken
            from the prompts.

    Raises:
        InputError: if the architecture is not one.
    """

    factor: Tensor
    shift: Tensor
    rows: Tensor
    head: Tensor | None

    def __init__(self, architecture: Mapping[str, Any]) -> None:
        super().__init__()
        checked = read_architecture(architecture)
        self.architecture = dict(architecture)
        self._scaled = checked.scaled
        self._tokenizer = checked.tokenizer
        labels = checked.prompts()
        # Classes with the same prompts are one row, so that they score exactly alike.
        different = {prompts: row for row, prompts in enumerate(dict.fromkeys(labels))}
        self._prompts = list(different)
        self._repeats = len(different) < len(labels)
        text_cfg = dict(checked.text_cfg)
        with torch.device("cpu"):  # so that sizes are known on the meta device too
            if checked.tokenizer == "words":
                text_cfg |= {
                    "vocab_size": int(self._tokens.max()) + 1,
                    "context_length": self._tokens.shape[1],
                }
            deviation = torch.tensor(checked.deviation).view(3, 1, 1)
            self.register_buffer("factor", 1 / (255 * deviation), persistent=False)
            mean = torch.tensor(checked.mean).view(3, 1, 1)
            self.register_buffer("shift", mean / deviation, persistent=False)
            rows = torch.tensor([different[prompts] for prompts in labels])
            self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("head", None, persistent=False)
        towers = open_clip.CustomTextCLIP(
            embed_dim=checked.embed_dim,
            vision_cfg=CLIPVisionCfg(**checked.vision_cfg),
            text_cfg=CLIPTextCfg(**text_cfg),
            quick_gelu=checked.quick_gelu,
        )
        self.visual = towers.visual
        for block in self.visual.modules():
            if isinstance(block, ResidualAttentionBlock):
                attend: Any = partial(_attend, block)
                block.attention = attend
        self.text = towers.text
        self.logit_scale = towers.logit_scale

    def freeze(self) -> None:
        """Compute the classifier once; from now on only the vision tower is trained."""
        if self.head is None:
            with torch.no_grad():
                self.head = self.classifier()
        self.requires_grad_(requires_grad=False)
        self.visual.requires_grad_(requires_grad=True)

    def forward(self, batch: Batch) -> Float[Tensor, "example label"]:
        """Give the log-probability of every class for every image.

        Args:
            batch: `image`, bytes [example, 3, height, width]; and, where examples
                choose among some of the labels only, `first` and `last` of them
                [example].

        Returns:
            Log-probabilities, the log-softmax of the inner products of embeddings;
            minus infinity for labels that an example does not choose among.
        """
        pixels = (batch["image"] * self.factor).sub_(self.shift)
        embeddings = self.visual(pixels.to(self.logit_scale.dtype))
        if self._scaled:
            embeddings = functional.normalize(embeddings, dim=-1)
        head = self.classifier() if self.head is None else self.head
        scores = embeddings @ head.T
        if self._repeats:
            scores = scores[:, self.rows]
        if "first" in batch:
            labels = torch.arange(len(self.rows), device=scores.device)
            before = labels < batch["first"].unsqueeze(-1)
            after = labels > batch["last"].unsqueeze(-1)
            scores = scores.masked_fill(before | after, -torch.inf)
        return functional.log_softmax(scores, dim=-1)

    def classifier(self) -> Float[Tensor, "row embedding"]:
        """Embed the prompts of every class.

        Returns:
            With `scaled`, exp(logit_scale) times the normalized mean of the normalized
            embeddings of its prompts; otherwise the mean of its prompts' embeddings.
        """
        device = self.logit_scale.device
        tokens = self._tokens.to(device)
        at_once = len(tokens) if device.type == "meta" else PROMPTS_AT_ONCE
        embedded = torch.cat([self.text(part) for part in tokens.split(at_once)])
        if self._scaled:
            embedded = functional.normalize(embedded, dim=-1)
        counts = [len(prompts) for prompts in self._prompts]
        means = embedded
        if max(counts) > 1:
            parts = embedded.split(counts)
            means = torch.stack([part.mean(dim=0) for part in parts])
            means = functional.normalize(means, dim=-1) if self._scaled else means
        return self.logit_scale.exp() * means if self._scaled else means

    @functools.cached_property
    def _tokens(self) -> Int[Tensor, "prompt position"]:
        prompts = [prompt for prompts in self._prompts for prompt in prompts]
        if self._tokenizer == "words":
            return tokenize(prompts)
        # Every token after the context's end is cut off, as CLIP was trained.
        return open_clip.tokenize(prompts, self.text.context_length)


def _attend(block: ResidualAttentionBlock, q_x: Tensor, **_: object) -> Tensor:
    # Looked up when it is called, since adapters take the attention's place.
    attention = block.attn
    # Gradients in evaluation mode are per-example gradients, taken under vmap, which
    # has no rule for the fused kernels. Asking for the weights keeps PyTorch from them.
    explicit = torch.is_grad_enabled() and not attention.training
    return attention(q_x, q_x, q_x, need_weights=explicit)[0]
