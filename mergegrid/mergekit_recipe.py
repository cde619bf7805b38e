"""Merges that mergekit's files ask for: a recipe for every tensor.

mergekit merges tensor by tensor, each with parameters of its own, so that one file is
as many recipes. Where its methods differ from the papers', its files get its own:
magnitudes are compared within a tensor, a sum of zero elects +, and what is thinned is
rescaled to its norm. `docs/mergekit.md` has the whole table.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from mergegrid.canonical import canonical_json
from mergegrid.documents import read_mapping
from mergegrid.errors import InputError
from mergegrid.mergekit_file import MergekitFile, read_mergekit
from mergegrid.mergekit_layers import check_slices, count_layers, locate
from mergegrid.mergekit_methods import MergekitMethod, Translation, get_mergekit_method
from mergegrid.mergekit_parameters import OF_A_MODEL, Parameters, Value, resolve
from mergegrid.methods import get_method
from mergegrid.methods.method import Recipe


@dataclass(frozen=True)
class MergekitMerge:
    """What a file of mergekit's asks for."""

    file: MergekitFile
    """The file."""

    method: MergekitMethod
    """Its method."""

    experts: Mapping[str, str]
    """The models to merge, in order: name to path, as it is written. Weights and other
    numbers of experts are in this order."""

    pretrained: str | None
    """Path of the base model, as it is written. Methods that do not need it take what
    comes with it: configuration and tokenizer."""

    unused: tuple[str, ...]
    """Parameters in the file that have no effect, with mergekit either, and why."""

    seed: int = 0
    """For methods that draw at random; mergekit's files have none."""

    @property
    def dtype(self) -> str | None:
        """The type of the merged tensors; None for the widest of the models' own."""
        return self.file.out_dtype or self.file.dtype

    def recipes(self, tensors: Iterable[str]) -> dict[str, Recipe]:
        """Give the recipe of every tensor.

        Args:
            tensors: names of all tensors of the base model, or of the first expert.

        Returns:
            Tensor to recipe; equal ones are one object.

        Raises:
            InputError: if a parameter has no value for a tensor, or one that is not
                possible, or slices do not hold all layers.
        """
        names = list(tensors)
        layers = count_layers(names)
        if self.file.is_sliced:
            check_slices(self.file.stretches, layers)
        found: dict[str, Recipe] = {}
        recipes: dict[str, Recipe] = {}
        for name in names:
            try:
                method, options = self.translation(name, layers)
                key = canonical_json([method, options])
                if key not in found:
                    found[key] = get_method(method).recipe(options)
            except InputError as error:
                raise InputError(f"parameters for {name}: {error}") from None
            recipes[name] = found[key]
        return recipes

    def translation(self, tensor: str, layers: Mapping[str, int]) -> Translation:
        """Say what becomes of one tensor.

        Args:
            tensor: its name.
            layers: how many layers each stack of the model has, from `count_layers`.

        Returns:
            Our method, and its options as far as they are not the default.

        Raises:
            InputError: if a parameter has no value for it, or one that is not possible.
        """
        stretch, depth = locate(tensor, self.file.stretches, layers)
        shared = [stretch.parameters, self.file.parameters]
        values: dict[str, Value | tuple[Value, ...]] = {}
        for name, default in self.method.parameters.items():
            if name not in OF_A_MODEL:
                value = resolve(shared, name, tensor, depth)
                values[name] = _required(value, default, name)
                continue
            of_models: list[Value] = []
            for path in self.experts.values():
                # A base model that is not in the list has no parameters of its own.
                own = [stretch.models[path]] if path in stretch.models else []
                value = resolve([*own, *shared], name, tensor, depth)
                of_models.append(_required(value, default, name, path))
            values[name] = tuple(of_models)
        return self.method.translate(values)


def read_merge(path: Path) -> MergekitMerge:
    """Read a file of mergekit's.

    Args:
        path: the file.

    Returns:
        What it asks for.

    Raises:
        InputError: if something in it is wrong or not supported; the message names the
            place.
    """
    document = read_mapping(path)
    try:
        return make_merge(document)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def make_merge(document: Mapping[str, Any]) -> MergekitMerge:
    """Make sense of a file of mergekit's.

    Args:
        document: its keys and values.

    Returns:
        What it asks for.

    Raises:
        InputError: if something in it is wrong or not supported; the message begins
            with the place.
    """
    file = read_mergekit(document)
    try:
        method = get_mergekit_method(file.method)
    except InputError as error:
        raise InputError(f"merge_method: {error}") from None
    return MergekitMerge(
        file=file,
        method=method,
        experts=_named(_experts(file, method)),
        pretrained=file.base_model,
        unused=tuple(_unused(file, method)),
    )


def _experts(file: MergekitFile, method: MergekitMethod) -> list[str]:
    base = file.base_model
    models = list(file.stretches[0].models)
    if method.base != "any":
        if base is None:
            raise InputError(f"base_model is missing; {file.method} needs one.")
        models = [model for model in models if model != base]
    elif base is not None and base not in models and not file.is_sliced:
        models.append(base)
    fewest, most = method.models
    if not fewest <= len(models) <= (most or len(models)):
        number = f"{'exactly' if most else 'at least'} {fewest}"
        noun = "model" if fewest == 1 else "models"
        base_too = (
            ", base_model included" if method.base == "any" else " besides base_model"
        )
        raise InputError(
            f"{file.stretches[0].place}: {file.method} is for {number} {noun}"
            f"{base_too}, not {len(models)}."
        )
    return [base, *models] if method.base == "first" and base else models


def _named(paths: list[str]) -> dict[str, str]:
    # The last part of a path is enough, if it tells the models apart.
    names = [PurePath(path).name for path in paths]
    is_enough = len(set(names)) == len(names) and all(names)
    return dict(zip(names if is_enough else paths, paths, strict=True))


def _required(
    value: Value | None, default: Value | None, name: str, path: str | None = None
) -> Value:
    found = default if value is None else value
    if found is None:
        whose = "" if path is None else f" for {path}"
        raise InputError(f"there is no {name}{whose}.")
    return found


def _unused(file: MergekitFile, method: MergekitMethod) -> Iterator[str]:
    scopes: list[tuple[Parameters, str | None]] = [(file.parameters, None)]
    for stretch in file.stretches:
        scopes.append((stretch.parameters, None))
        scopes += [(own, model) for model, own in stretch.models.items()]
    for scope, model in scopes:
        for name in scope.settings:
            if name == "int8_mask":
                continue  # saves memory, and changes nothing
            if name not in method.parameters:
                reason = f"{file.method} does not use it"
            elif model is not None and name not in OF_A_MODEL:
                reason = "it belongs under parameters of the whole merge"
            elif (
                model is not None and model == file.base_model and method.base != "any"
            ):
                reason = "this is the base model"
            else:
                continue
            yield f"{scope.place}.{name} has no effect: {reason}."
