"""CLIP models, built by open_clip from a configuration of ours.

The classifier is the text tower's embedding of every prompt, as in the Realistic
Evaluation paper; the vision tower is what experts train and merges merge. Parameter
names are those of `open_clip.CustomTextCLIP`, so that a saved model is open_clip's too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import ResidualAttentionBlock
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.models.family import Family
from mergegrid.suites.examples import Batch

PARAMETERS_FILE = "model.safetensors"
CONFIGURATION_FILE = "config.json"

# Of ImageNet's pixels in CLIP's preprocessing; any fixed values would do here.
PIXEL_MEAN = 0.5
PIXEL_DEVIATION = 0.25


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
    """An open_clip model that says which of its prompts an image shows.

    Args:
        architecture: open_clip's model configuration: `embed_dim`, `vision_cfg` and
            `text_cfg`; and `prompts`, one for each label, from which the size of the
            vocabulary and the length of the context are taken.
    """

    tokens: Tensor
    head: Tensor | None

    def __init__(self, architecture: Mapping[str, Any]) -> None:
        super().__init__()
        self.architecture = dict(architecture)
        with torch.device("cpu"):  # so that sizes are known on the meta device too
            tokens = tokenize(architecture["prompts"])
        towers = open_clip.CustomTextCLIP(
            embed_dim=architecture["embed_dim"],
            vision_cfg=CLIPVisionCfg(**architecture["vision_cfg"]),
            text_cfg=CLIPTextCfg(
                **architecture["text_cfg"],
                vocab_size=int(tokens.max()) + 1,
                context_length=tokens.shape[1],
            ),
        )
        self.visual = towers.visual
        for block in self.visual.modules():
            if isinstance(block, ResidualAttentionBlock):
                attend: Any = partial(_attend, block.attn)
                block.attention = attend
        self.text = towers.text
        self.logit_scale = towers.logit_scale
        self.register_buffer("tokens", tokens, persistent=False)
        self.register_buffer("head", None, persistent=False)

    def freeze(self) -> None:
        """Compute the classifier once; from now on only the vision tower is trained."""
        with torch.no_grad():
            self.head = self._classifier()
        self.requires_grad_(requires_grad=False)
        self.visual.requires_grad_(requires_grad=True)

    def forward(self, batch: Batch) -> Float[Tensor, "example label"]:
        """Give the log-probability of every prompt for every image.

        Args:
            batch: `image`, bytes [example, 3, height, width].

        Returns:
            Log-probabilities: the log-softmax of scaled cosine similarities.
        """
        scaled = batch["image"] * (1 / (255 * PIXEL_DEVIATION))
        pixels = scaled.sub_(PIXEL_MEAN / PIXEL_DEVIATION).to(self.logit_scale.dtype)
        embeddings = functional.normalize(self.visual(pixels), dim=-1)
        head = self._classifier() if self.head is None else self.head
        return functional.log_softmax(embeddings @ head.T, dim=-1)

    def _classifier(self) -> Float[Tensor, "label embedding"]:
        embeddings = functional.normalize(self.text(self.tokens), dim=-1)
        return self.logit_scale.exp() * embeddings


def _attend(attention: nn.MultiheadAttention, q_x: Tensor, **_: object) -> Tensor:
    # Gradients in evaluation mode are per-example gradients, taken under vmap, which
    # has no rule for the fused kernels. Asking for the weights keeps PyTorch from them.
    explicit = torch.is_grad_enabled() and not attention.training
    return attention(q_x, q_x, q_x, need_weights=explicit)[0]


class _Architecture(BaseModel):
    """What `open_clip` models are made from."""

    model_config = ConfigDict(extra="forbid")

    embed_dim: int
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]
    prompts: list[str] = Field(min_length=1)


class OpenClip(Family):
    """Models that open_clip builds, classifying images by prompts."""

    name = "open_clip"

    def create(self, architecture: Mapping[str, Any], *, seed: int) -> ClipClassifier:
        """Make a model with random parameters, all of them trainable.

        Args:
            architecture: see `ClipClassifier`.
            seed: decides the parameters.

        Returns:
            The model, ready to be pretrained.

        Raises:
            InputError: if the architecture is not one, or has no prompts.
        """
        _check(architecture)
        with torch.random.fork_rng(devices=[]):  # open_clip draws from the global one
            torch.default_generator.manual_seed(seed)
            return ClipClassifier(architecture)

    def import_model(
        self, directory: Path, architecture: Mapping[str, Any]
    ) -> ClipClassifier:
        """Open a published model.

        Args:
            directory: as `save` writes it.
            architecture: see `ClipClassifier`.

        Returns:
            The model, all of it trainable.

        Raises:
            InputError: if it is no such model.
        """
        model = self.load(directory)
        if model.architecture != dict(architecture):
            raise InputError(f"{directory} holds a model of another architecture.")
        model.head = None
        model.requires_grad_(requires_grad=True)
        return model

    def example(self, architecture: Mapping[str, Any]) -> Batch:
        """Make a batch of one blank example.

        Args:
            architecture: see `ClipClassifier`.

        Returns:
            A black image of the size that the vision tower takes, with label 0.
        """
        size = architecture["vision_cfg"]["image_size"]
        return {
            "image": torch.zeros(1, 3, size, size, dtype=torch.uint8),
            "label": torch.zeros(1, dtype=torch.int64),
        }

    def freeze(self, model: nn.Module) -> None:
        """Compute the classifier once; from now on only the vision tower is trained.

        Args:
            model: one that this family made.

        Raises:
            TypeError: if the model is of another family.
        """
        _own(model).freeze()

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write a model: `model.safetensors`, and `config.json` for everything else.

        Args:
            model: one that this family made.
            directory: where to; an existing directory.

        Raises:
            TypeError: if the model is of another family.
        """
        model = _own(model)
        parameters = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in model.state_dict().items()
        }
        save_file(parameters, directory / PARAMETERS_FILE)
        configuration = {
            "family": self.name,
            "architecture": model.architecture,
        }
        text = json.dumps(configuration, indent=2, sort_keys=True, ensure_ascii=False)
        (directory / CONFIGURATION_FILE).write_text(text + "\n", encoding="utf-8")

    def load(self, directory: Path) -> ClipClassifier:
        """Open a model to be fine-tuned, measured, merged or evaluated.

        Args:
            directory: where `save` wrote it.

        Returns:
            The model: only the vision tower requires gradients, and the classifier is
            computed once and frozen.

        Raises:
            InputError: if the directory holds no open_clip model.
        """
        path = directory / CONFIGURATION_FILE
        if not path.is_file():
            raise InputError(f"There is no {CONFIGURATION_FILE} in {directory}.")
        configuration = json.loads(path.read_text(encoding="utf-8"))
        if configuration.get("family") != self.name:
            raise InputError(
                f"{path} is for the family {configuration.get('family')!r}, "
                f"not {self.name!r}."
            )
        _check(configuration["architecture"])
        with torch.random.fork_rng(devices=[]):  # leave the global generator alone
            model = ClipClassifier(configuration["architecture"])
        parameters = load_file(directory / PARAMETERS_FILE)
        missing = sorted(model.state_dict().keys() ^ parameters.keys())
        if missing:
            raise InputError(
                f"{directory / PARAMETERS_FILE} does not hold the model that {path} "
                f"describes: they differ in {missing[0]!r}."
            )
        model.load_state_dict(parameters)
        model.freeze()
        return model.eval()


def _own(model: nn.Module) -> ClipClassifier:
    if not isinstance(model, ClipClassifier):
        raise TypeError(f"{type(model).__name__} is no open_clip classifier.")
    return model


def _check(architecture: Mapping[str, Any]) -> None:
    try:
        checked = _Architecture.model_validate(dict(architecture))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"architecture: {place}: {first['msg'].lower()}.") from None
    sections = {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg}
    for section, record in sections.items():
        known = [field.name for field in fields(record)]
        for option in getattr(checked, section):
            if option not in known:
                raise UnknownNameError(f"option of {section}", option, known)


FAMILY = OpenClip()
