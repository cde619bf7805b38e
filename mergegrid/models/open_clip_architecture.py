"""What an open_clip model is made from, as plain values.

An architecture is open_clip's own model configuration, together with what turns it into
a classifier: the classes and their prompts, how prompts are tokenized, and how the
pixels of images are normalized.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from pydantic import BaseModel, ConfigDict, Field

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.models.architectures import check_architecture

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue in the images that CLIP was trained on, from 0 to 1."""

MODEL_SECTIONS = ("embed_dim", "quick_gelu", "vision_cfg", "text_cfg")
"""The entries that say what the model is, whatever it classifies."""

_RECORDS = {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg}


class Head(BaseModel):
    """Classes that share their templates; a model's labels number all heads' classes.

    A class with several names has every template filled in with each of them.
    """

    model_config = ConfigDict(extra="forbid")

    classes: list[str | list[str]] = Field(min_length=1)
    """Their names, in the order of their labels."""

    templates: list[str] = Field(default=["{}"], min_length=1)
    """Prompts with `{}` in the place of the name."""

    def prompts(self) -> list[tuple[str, ...]]:
        """Fill the templates in.

        Returns:
            The prompts of each class.
        """
        return [
            tuple(
                template.replace("{}", name)
                for template in self.templates
                for name in ([names] if isinstance(names, str) else names)
            )
            for names in self.classes
        ]


class Architecture(BaseModel):
    """What `open_clip` models are made from."""

    model_config = ConfigDict(extra="forbid")

    embed_dim: int
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]
    quick_gelu: bool = False
    """Whether the activation is x sigmoid(1.702 x), as in OpenAI's models."""

    heads: list[Head] = Field(min_length=1)
    """The classes; their labels run on from head to head."""

    scaled: bool = True
    """Whether embeddings are normalized, averaged over a class's prompts, normalized
    again, and multiplied by exp(logit_scale); otherwise they are averaged as they
    are, and so are those of images."""

    tokenizer: Literal["words", "clip"] = "words"
    """The prompts' own words, each a token; or CLIP's byte pairs."""

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """What is subtracted from red, green and blue, from 0 to 1."""

    deviation: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """What they are divided by afterwards."""

    def prompts(self) -> list[tuple[str, ...]]:
        """Give the prompts of every label.

        Returns:
            For each label its prompts.
        """
        return [prompts for head in self.heads for prompts in head.prompts()]


def read_architecture(written: Mapping[str, Any]) -> Architecture:
    """Check an architecture.

    Args:
        written: plain values.

    Returns:
        The architecture.

    Raises:
        InputError: if it is not one.
    """
    checked = check_architecture(Architecture, written)
    for section in _RECORDS:
        check_options(section, getattr(checked, section))
    return checked


def check_options(section: str, options: Mapping[str, Any]) -> None:
    """Check the names of options of open_clip's.

    Args:
        section: `vision_cfg` or `text_cfg`.
        options: the options by name.

    Raises:
        UnknownNameError: if open_clip has none of that name.
    """
    known = [field.name for field in fields(_RECORDS[section])]
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of {section}", option, known)


def same_model(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Compare two models, defaults spelt out.

    Args:
        one: the sections of an architecture that say what the model is.
        other: those of another.

    Returns:
        The first setting in which they differ; None if they are the same.
    """
    for name in MODEL_SECTIONS:
        if name in _RECORDS:
            mine, theirs = _RECORDS[name](**one[name]), _RECORDS[name](**other[name])
            for field in fields(_RECORDS[name]):
                if getattr(mine, field.name) != getattr(theirs, field.name):
                    return f"{name}.{field.name}"
        elif one.get(name, False) != other.get(name, False):
            return name
    return None


def named_model(name: str, *, quick_gelu: bool) -> dict[str, Any]:
    """Look a model up among open_clip's configurations.

    Args:
        name: its name there, such as `ViT-B-32`.
        quick_gelu: whether it is in OpenAI's variant of it.

    Returns:
        The sections of an architecture that say what the model is.

    Raises:
        UnknownNameError: if open_clip has none of that name.
    """
    found = open_clip.get_model_config(name)
    if found is None:
        raise UnknownNameError("open_clip model", name, open_clip.list_models())
    return model_sections(found) | {"quick_gelu": quick_gelu}


def model_sections(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Take from open_clip's configuration of a model what an architecture holds of it.

    Args:
        configuration: as `open_clip_config.json` has it under `model_cfg`.

    Returns:
        The sections of an architecture that say what the model is.

    Raises:
        InputError: if it is no model with a vision tower and a text tower of CLIP's.
    """
    for name in ("embed_dim", "vision_cfg", "text_cfg"):
        if name not in configuration:
            raise InputError(f"The model's configuration has no {name}.")
    unknown = sorted(set(configuration) - {*MODEL_SECTIONS, "custom_text"})
    if unknown:
        raise InputError(
            f"{unknown[0]!r} in the model's configuration is for a model that is no "
            f"plain CLIP; take one of its ViT models."
        )
    return {
        "embed_dim": configuration["embed_dim"],
        "quick_gelu": configuration.get("quick_gelu", False),
        "vision_cfg": dict(configuration["vision_cfg"]),
        "text_cfg": dict(configuration["text_cfg"]),
    }


def label_of(prompts: Sequence[tuple[str, ...]]) -> list[int]:
    """Find for every label the first one with the same prompts.

    Args:
        prompts: of each label.

    Returns:
        That label, by which examples of either are to be labelled.
    """
    first: dict[tuple[str, ...], int] = {}
    return [first.setdefault(own, label) for label, own in enumerate(prompts)]
