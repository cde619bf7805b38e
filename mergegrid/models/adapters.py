"""Adapters (peft): LoRA and IA3 experts of the other families' models.

Of LoRA, the layers' weights are merged: an expert's weight is the pretrained one plus
the product of its factors with their scaling, so that its task vector is the product,
and every method and every statistic is what it is for full models. Of IA3, the vectors
are merged, as parameters of their own around one; nothing linear holds them, so that
they have no Gram matrix.
"""

import math
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from peft import IA3Config, LoraConfig, LoraModel, inject_adapter_in_model
from peft.tuners.ia3 import IA3Layer
from torch import Tensor, nn

from mergegrid.errors import InputError
from mergegrid.models import get_family
from mergegrid.models.adapted_model import BASE, AdaptedModel
from mergegrid.models.adapter_files import (
    CONFIGURATION,
    read_adapter,
    truncated,
    write_ia3,
    write_lora,
)
from mergegrid.models.adapter_kinds import (
    AdapterArchitecture,
    Ia3,
    Lora,
    is_target,
)
from mergegrid.models.adapter_layers import (
    Layer,
    find_layers,
    open_attention,
    published_name,
)
from mergegrid.models.architectures import (
    check_architecture,
    read_architecture,
    save_architecture,
)
from mergegrid.models.family import Family
from mergegrid.models.hub_models import inner_model
from mergegrid.parameters import Parameters
from mergegrid.randomness import Stream
from mergegrid.suites.examples import Batch, Examples

ADAPTER = "adapter"
"""Where IA3's vectors are stored, as peft does."""

VECTOR = ".ia3_l.default"
"""How the names of IA3's vectors end."""


class Adapters(Family):
    """Models of other families, experts of which are adapters."""

    name = "adapters"

    def create(self, architecture: Mapping[str, Any], *, seed: int) -> AdaptedModel:
        """Make a base model with random parameters, all of them trainable.

        Args:
            architecture: see `AdapterArchitecture`.
            seed: decides the parameters.

        Returns:
            The model without adapters, ready to be pretrained.
        """
        checked = check_architecture(AdapterArchitecture, architecture)
        base = get_family(checked.family).create(checked.base, seed=seed)
        return AdaptedModel(base, checked)

    def import_model(
        self, directory: Path, architecture: Mapping[str, Any]
    ) -> AdaptedModel:
        """Open a published base model.

        Args:
            directory: in the format of its hub.
            architecture: see `AdapterArchitecture`.

        Returns:
            The model without adapters, all of it trainable.
        """
        checked = check_architecture(AdapterArchitecture, architecture)
        base = get_family(checked.family).import_model(directory, checked.base)
        return AdaptedModel(base, checked)

    def import_expert(
        self, directory: Path, architecture: Mapping[str, Any], pretrained: nn.Module
    ) -> Parameters:
        """Open a published adapter.

        Args:
            directory: as peft saves it.
            architecture: see `AdapterArchitecture`.
            pretrained: the base model, as loaded.

        Returns:
            Its merged parameters. Layers that the adapter leaves alone are as in the
            pretrained model.

        Raises:
            InputError: if it is no adapter, one for another base model or for other
                layers, or cannot be merged.
        """
        del architecture
        model = _own(pretrained)
        kind = model.architecture.adapter
        stored = read_adapter(directory)
        if stored.kind != kind.kind:
            raise InputError(
                f"{directory} is an adapter of the kind {stored.kind}, not {kind.kind}."
            )
        values = {n: p.clone() for n, p in self.merged_parameters(model).items()}
        layers = {layer.published: layer for layer in _layers(model)}
        for name, value in stored.layers.items():
            layer = layers.get(name)
            if layer is None:
                raise InputError(_unknown(directory, name, model))
            into = values[f"{BASE}.{layer.weight}"][layer.rows]
            if into.shape != value.shape:
                raise InputError(
                    f"{directory} is an adapter for another base model: of {name!r}, "
                    f"shape {tuple(into.shape)}, it adapts {tuple(value.shape)}."
                )
            into.mul_(float(isinstance(kind, Lora))).add_(value.to(into.device))
        return values

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
        base = get_family(given["family"])
        return {**given, "base": base.describe(files, given.get("base", {}))}

    def example(self, architecture: Mapping[str, Any]) -> Batch:
        """Make a batch of one blank example.

        Args:
            architecture: see `AdapterArchitecture`.

        Returns:
            That of the base model's family.
        """
        checked = check_architecture(AdapterArchitecture, architecture)
        return get_family(checked.family).example(checked.base)

    def encode(self, model: nn.Module, examples: Examples) -> Examples:
        """Turn a suite's examples into what the base model takes.

        Args:
            model: one of this family.
            examples: as the suite gives them.

        Returns:
            Examples as the base model's family encodes them.
        """
        own = _own(model)
        return get_family(own.architecture.family).encode(own.base, examples)

    def freeze(self, model: nn.Module) -> None:
        """Leave what adapters change to be merged, and fix everything else.

        Args:
            model: one that this family made; IA3's vectors are put in.
        """
        own = _own(model)
        if _vectors(own):
            return
        get_family(own.architecture.family).freeze(own.base)
        kind = own.architecture.adapter
        layers = find_layers(own.base, kind)
        own.requires_grad_(requires_grad=False)
        if isinstance(kind, Lora):
            for layer in layers:
                own.base.get_parameter(layer.weight).requires_grad = True
            return
        names = [layer.name for layer in layers]
        config = IA3Config(
            target_modules=names,
            feedforward_modules=[n for n in names if is_target(n, kind.feedforward)],
        )
        inject_adapter_in_model(config, own.base)

    def adapting(self, model: nn.Module, *, seed: int) -> AbstractContextManager[None]:
        """Have LoRA's factors in a model while it is trained.

        Args:
            model: a loaded model.
            seed: decides what the factors begin as.

        Returns:
            The block, at whose end the products are added to the weights. IA3's vectors
            are in the model already.
        """
        own = _own(model)
        kind = own.architecture.adapter
        return _factors(own, kind, seed) if isinstance(kind, Lora) else nullcontext()

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write a model.

        Args:
            model: one that this family made.
            directory: where to; an existing directory. It holds the base model as its
                family writes it, with LoRA's products in it; and in a directory of its
                own what is adapted, with IA3's vectors as peft writes them.
        """
        own = _own(model)
        vectors = _vectors(own)
        with _without(own, vectors):
            get_family(own.architecture.family).save(own.base, directory)
        (directory / ADAPTER).mkdir()
        save_architecture(directory / ADAPTER, self.name, own.architecture.model_dump())
        if vectors:
            self.save_adapter(model, {}, directory / ADAPTER, rank=1)

    def load(self, directory: Path) -> AdaptedModel:
        """Open a model to be fine-tuned, measured, merged or evaluated.

        Args:
            directory: where `save` wrote it.

        Returns:
            The model, in which exactly the merged parameters require gradients.
        """
        about = read_architecture(directory / ADAPTER, self.name)
        checked = check_architecture(AdapterArchitecture, about)
        base = get_family(checked.family).load(directory)
        model = AdaptedModel(base, checked)
        self.freeze(model)
        if (directory / ADAPTER / CONFIGURATION).is_file():
            values = self.import_expert(directory / ADAPTER, about, model)
            self.set_parameters(model, values)
        return model.eval()

    def save_adapter(
        self, model: nn.Module, pretrained: Parameters, directory: Path, *, rank: int
    ) -> float:
        """Write a merged model as an adapter of the pretrained model.

        Args:
            model: the merged model.
            pretrained: the pretrained model's merged parameters.
            directory: where to; an existing directory.
            rank: of LoRA, the rank to which every weight's change is cut.

        Returns:
            The relative error, |changes - their products| / |changes| in Frobenius norm
            over all weights together; 0 of IA3, whose vectors are kept as they are.
        """
        own = _own(model)
        transposed = bool(getattr(own.base, "turned", []))
        merged = {n: p.cpu() for n, p in self.merged_parameters(own).items()}
        layers = {each.published: each for each in _layers(own)}
        if isinstance(own.architecture.adapter, Ia3):
            vectors = {n: merged[f"{BASE}.{each.weight}"] for n, each in layers.items()}
            write_ia3(directory, vectors, transposed=transposed)
            return 0.0
        factors: dict[str, tuple[Tensor, Tensor]] = {}
        lost = changed = 0.0
        for published, layer in layers.items():
            name = f"{BASE}.{layer.weight}"
            before = pretrained[name].cpu()[layer.rows].double()
            change = merged[name][layer.rows].double() - before
            a, b = truncated(change, rank)
            factors[published] = a, b
            lost += (change - b.double() @ a.double()).square().sum().item()
            changed += change.square().sum().item()
        write_lora(directory, factors, transposed=transposed)
        return math.sqrt(lost / changed) if changed else 0.0


@contextmanager
def _factors(model: AdaptedModel, kind: Lora, seed: int) -> Generator[None]:
    """Put LoRA's factors into a model, and at the end add their products."""
    layers = find_layers(model.base, kind)
    config = LoraConfig(
        r=kind.r,
        lora_alpha=kind.alpha,  # pyright: ignore[reportArgumentType]
        rank_pattern=dict(kind.rank_pattern),
        alpha_pattern=dict(kind.alpha_pattern),
        use_rslora=kind.rslora,
        lora_dropout=kind.dropout,
        target_modules=[layer.name for layer in layers],
    )
    with open_attention(model.base, layers):
        with Stream(seed).drawing():
            tuner = LoraModel(model.base, config, "default")
        yield
        products: dict[str, Tensor] = {}
        for layer in layers:
            adapted: Any = model.base.get_submodule(layer.name)
            products[layer.name] = adapted.get_delta_weight("default").detach()
        tuner.unload()
    model.requires_grad_(requires_grad=False)
    for layer in layers:
        weight = model.base.get_parameter(layer.weight)
        weight.data[layer.rows] += products[layer.name]
        weight.requires_grad = True


def _layers(model: AdaptedModel) -> list[Layer]:
    """List the adapted layers; of IA3 the vectors stand for their weights."""
    kind = model.architecture.adapter
    if isinstance(kind, Lora):
        return find_layers(model.base, kind)
    inner, _ = inner_model(model.base)
    return [
        Layer(name, published_name(name, inner), f"{name}{VECTOR}", slice(None))
        for name in _vectors(model)
    ]


def _vectors(model: AdaptedModel) -> dict[str, IA3Layer]:
    """Find the layers that IA3 was put into."""
    return {
        name: module
        for name, module in model.base.named_modules()
        if isinstance(module, IA3Layer)
    }


@contextmanager
def _without(model: AdaptedModel, vectors: Mapping[str, IA3Layer]) -> Generator[None]:
    """Have the base model as it is without IA3 in this block."""
    adapted: dict[str, Any] = dict(vectors)
    for name, layer in adapted.items():
        model.base.set_submodule(name, layer.base_layer)
    try:
        yield
    finally:
        for name, layer in adapted.items():
            model.base.set_submodule(name, layer)


def _unknown(directory: Path, layer: str, model: AdaptedModel) -> str:
    """Say what is wrong with a layer that is none of the targets."""
    _, inner = inner_model(model.base)
    if layer not in dict(inner.named_modules()):
        return (
            f"{directory} is an adapter for another base model: this one has no layer "
            f"{layer!r}."
        )
    targets = ", ".join(model.architecture.adapter.targets)
    return (
        f"{directory} adapts {layer!r}, but the targets are {targets}; name all layers "
        f"that any expert adapts."
    )


def _own(model: nn.Module) -> AdaptedModel:
    if not isinstance(model, AdaptedModel):
        raise TypeError(f"{type(model).__name__} is no model with adapters.")
    return model


FAMILY = Adapters()
