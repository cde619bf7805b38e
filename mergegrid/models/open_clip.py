"""CLIP models, built by open_clip, whose vision towers are merged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mergegrid.errors import InputError
from mergegrid.models.family import Family
from mergegrid.models.open_clip_architecture import read_architecture, same_model
from mergegrid.models.open_clip_classifier import ClipClassifier
from mergegrid.models.open_clip_formats import (
    CONFIGURATION,
    FAMILY_NAME,
    PARAMETERS,
    Stored,
    read_expert,
    read_model,
    read_model_sections,
)
from mergegrid.parameters import Parameters
from mergegrid.randomness import Stream
from mergegrid.suites.examples import Batch

HEAD_FILE = "head.safetensors"
"""The classifier, which takes thousands of prompts to compute."""

PROJECTION = "visual.proj"
"""What transformers holds outside its vision tower, and vision towers alone lack."""


class OpenClip(Family):
    """Models that open_clip builds, classifying images by prompts."""

    name = FAMILY_NAME

    def create(self, architecture: Mapping[str, Any], *, seed: int) -> ClipClassifier:
        """Make a model with random parameters, all of them trainable.

        Args:
            architecture: see `ClipClassifier`.
            seed: decides the parameters.

        Returns:
            The model, ready to be pretrained.

        Raises:
            InputError: if the architecture is not one, or has no classes.
        """
        with Stream(seed).drawing():
            return ClipClassifier(architecture)

    def import_model(
        self, directory: Path, architecture: Mapping[str, Any]
    ) -> ClipClassifier:
        """Open a published model.

        Args:
            directory: in the format of open_clip's hub, of transformers' CLIPModel, or
                as `save` writes it.
            architecture: see `ClipClassifier`.

        Returns:
            The model, all of it trainable.

        Raises:
            InputError: if it is no such model.
        """
        stored = read_model(directory)
        _check_model(stored, architecture, directory)
        model = self.create(architecture, seed=0)
        _fill(model, stored.parameters, str(directory))
        return model

    def import_expert(
        self, directory: Path, architecture: Mapping[str, Any], pretrained: nn.Module
    ) -> Parameters:
        """Open a published expert.

        Args:
            directory: as of a model; or of a vision tower alone, as transformers'
                CLIPVisionModel or in open_clip's names. Where it has no projection to
                the embedding, that has not been fine-tuned, and is the pretrained
                model's.
            architecture: see `ClipClassifier`.
            pretrained: what it was fine-tuned from, as loaded.

        Returns:
            Its merged parameters.

        Raises:
            InputError: if it is no expert of that pretrained model.
        """
        stored = read_expert(directory)
        _check_model(stored, architecture, directory)
        own = self.merged_parameters(pretrained)
        found = {PROJECTION: own[PROJECTION]} | dict(stored.parameters)
        self.check_parameters(pretrained, found, str(directory))
        return {
            name: found[name].to(tensor.dtype).clone() for name, tensor in own.items()
        }

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
        return read_model_sections(files) | {"tokenizer": "clip", **given}

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
        """Write a model: its parameters, its classifier, its configuration.

        Args:
            model: one that this family made.
            directory: where to; an existing directory.

        Raises:
            TypeError: if the model is of another family.
        """
        model = _own(model)
        save_file(_stored(model.state_dict()), directory / PARAMETERS)
        with torch.no_grad():
            head = model.classifier() if model.head is None else model.head
        save_file(_stored({"head": head}), directory / HEAD_FILE)
        configuration = {
            "family": self.name,
            "architecture": model.architecture,
        }
        text = json.dumps(configuration, indent=2, sort_keys=True, ensure_ascii=False)
        (directory / CONFIGURATION).write_text(text + "\n", encoding="utf-8")

    def load(self, directory: Path) -> ClipClassifier:
        """Open a model to be fine-tuned, measured, merged or evaluated.

        Args:
            directory: where `save` wrote it.

        Returns:
            The model: only the vision tower requires gradients, and the classifier is
            frozen.

        Raises:
            InputError: if the directory holds no open_clip model.
        """
        path = directory / CONFIGURATION
        if not path.is_file():
            raise InputError(f"There is no {CONFIGURATION} in {directory}.")
        configuration = json.loads(path.read_text(encoding="utf-8"))
        if configuration.get("family") != self.name:
            raise InputError(
                f"{path} is for the family {configuration.get('family')!r}, "
                f"not {self.name!r}."
            )
        with Stream(0).drawing():  # the draws are replaced at once
            model = ClipClassifier(configuration["architecture"])
        _fill(model, load_file(directory / PARAMETERS), str(directory))
        model.head = load_file(directory / HEAD_FILE)["head"]
        model.freeze()
        return model.eval()


def _own(model: nn.Module) -> ClipClassifier:
    if not isinstance(model, ClipClassifier):
        raise TypeError(f"{type(model).__name__} is no open_clip classifier.")
    return model


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()
    }


def _fill(
    model: ClipClassifier, parameters: Mapping[str, Tensor], directory: str
) -> None:
    own = model.state_dict()
    differing = sorted(own.keys() ^ parameters.keys())
    if differing:
        raise InputError(
            f"{directory} does not hold the model that is expected: they differ in "
            f"{differing[0]!r}."
        )
    for name, tensor in own.items():
        if tensor.shape != parameters[name].shape:
            raise InputError(
                f"{name!r} has shape {tuple(parameters[name].shape)} in {directory}, "
                f"but {tuple(tensor.shape)} in the model that is expected."
            )
    model.load_state_dict(dict(parameters))


def _check_model(
    stored: Stored, architecture: Mapping[str, Any], directory: Path
) -> None:
    if stored.model is None:
        return
    expected = read_architecture(architecture).model_dump()
    differs = same_model(stored.model, expected)
    if differs is not None:
        raise InputError(
            f"{directory} holds another model than the one that is expected: they "
            f"differ in {differs}."
        )


FAMILY = OpenClip()
