"""Finishing: from merged task vectors to a merged model.

The scale is applied last, so that recipes that differ in it alone share everything
else; then values are cast, once, to the types of the pretrained model.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mergegrid.buffers import Buffers
from mergegrid.cohort import Cohort
from mergegrid.depth import layer_positions, scale_at
from mergegrid.methods import get_method
from mergegrid.methods.method import Recipe
from mergegrid.methods.options import Option
from mergegrid.parameters import Role
from mergegrid.running_statistics import merge_running_statistic
from mergegrid.variant import Variant

FINISHING = frozenset({"scale", "depth_scale", "layer_scales", "match_norm"})
"""The options that are applied last."""


def unscaled(recipe: Recipe) -> dict[str, Option]:
    """Leave the options out that are applied last.

    Args:
        recipe: the recipe.

    Returns:
        Method and options; equal for recipes that share everything up to there.
    """
    is_scaled = get_method(recipe.method).scale is not None
    options = {
        name: value
        for name, value in recipe.options.items()
        if not (is_scaled and name in FINISHING)
    }
    return {"method": recipe.method, "options": options}


class Finishing:
    """The last step of merges of a cohort.

    Args:
        cohort: the experts.
        dtype: the type of the merged model's floating-point tensors; None for those of
            the pretrained model, or else of the first expert.
        members: which of the cohort's experts are merged; None for all.
    """

    def __init__(
        self,
        cohort: Cohort,
        dtype: torch.dtype | None,
        members: Sequence[int] | None = None,
    ) -> None:
        self.cohort = cohort
        self.dtype = dtype
        self.positions = layer_positions(cohort.layout.infos)
        experts = [*cohort.experts.values()]
        self.experts = experts if members is None else [experts[i] for i in members]
        self.reference = (
            self.experts[0] if cohort.pretrained is None else cohort.pretrained
        )
        """The model whose types the merged model takes, and what is copied."""

    def type_of(self, name: str) -> torch.dtype:
        """Tell the type of a merged tensor.

        Args:
            name: the tensor.

        Returns:
            Its type.
        """
        own = self.reference.infos[name].dtype
        return self.dtype if self.dtype and own.is_floating_point else own

    def stretch(
        self,
        recipe: Recipe,
        name: str,
        merged: Tensor,
        base: Tensor | None,
        norm_factor: float,
        into: Tensor | None = None,
    ) -> Tensor:
        """Finish a stretch of a parameter.

        Args:
            recipe: the recipe.
            name: the parameter.
            merged: [entry], float32: of methods with a scale, the merged task vector.
            base: [entry], of methods with a scale, the pretrained parameter.
            norm_factor: factor on the scale, from `norm_factors`.
            into: [entry], float32, what may be overwritten; None for a new tensor.

        Returns:
            [entry], in the type of the merged model, where `merged` is.
        """
        if base is not None:
            options = recipe.options
            factor = scale_at(
                name,
                self.positions,
                scale=options["scale"],
                depth_scale=options["depth_scale"],
                layer_scales=options["layer_scales"],
                norm_factor=norm_factor,
            )
            base = base.to(merged.device, torch.float32)
            merged = torch.add(base, merged, alpha=factor, out=into)
        return merged.to(self.type_of(name))

    def rest(self, name: str) -> Tensor | None:
        """Give what of a tensor is not merged.

        Args:
            name: a tensor, one that no other name comes before.

        Returns:
            Flat: of integers the whole tensor, of parameters the rows that not all
            models have; None if there are none.
        """
        layout = self.cohort.layout
        merges = layout.roles[name] in {Role.MERGED, Role.AVERAGED}
        start = layout.entries(name) if merges else 0
        stop = layout.infos[name].entries
        if merges and start == stop:
            return None
        return self.reference.read(name, start, stop).to(self.type_of(name))

    def averaged(self, name: str) -> Tensor:
        """Average a running statistic.

        Args:
            name: the tensor.

        Returns:
            Flat, in the type of the merged model.
        """
        merged = merge_running_statistic(
            name, self.experts, self.cohort.running_variance
        )
        return merged.reshape(-1).to(self.type_of(name))

    def model(
        self,
        recipe: Recipe,
        merged: Mapping[str, Tensor],
        norm_factor: float,
        room: Buffers | None,
    ) -> dict[str, Tensor]:
        """Finish a whole model.

        Args:
            recipe: the recipe.
            merged: every parameter's flat entries, as `stretch` takes them.
            norm_factor: see `stretch`.
            room: where the model is made; None if the merged entries are not asked for
                again, and may become the model's.

        Returns:
            New tensors by name; tied ones are tied.
        """
        layout = self.cohort.layout
        is_scaled = get_method(recipe.method).scale is not None
        finished: dict[str, Tensor] = {}
        for name, first in layout.first_name.items():
            if first != name:
                finished[name] = finished[first]
                continue
            info = layout.infos[name]
            parts: list[Tensor] = []
            if name in merged:
                base = self._base(name) if is_scaled else None
                own = merged[name]
                into = own if room is None else room.numbers(own.shape, own.device)
                parts.append(self.stretch(recipe, name, own, base, norm_factor, into))
            elif layout.roles[name] is Role.AVERAGED:
                parts.append(self.averaged(name))
            rest = self.rest(name)
            if rest is not None:
                parts.append(rest)
            flat = torch.cat(parts) if len(parts) > 1 else parts[0]
            if name in merged and flat.data_ptr() == merged[name].data_ptr():
                flat = flat if room is None else flat.clone()
            elif layout.roles[name] in {Role.COPIED, Role.COUNTER}:
                flat = flat.clone()
            finished[name] = flat.view(info.shape)
        return finished

    def _base(self, name: str) -> Tensor:
        return self.reference.read(name, 0, self.cohort.layout.entries(name))


def norm_factors(
    cohort: Cohort, variant: Variant, lengths: Sequence[float]
) -> list[float]:
    """Tell what brings merged task vectors to the norm of the mean task vector.

    Args:
        cohort: the experts.
        variant: the merge.
        lengths: L1 norm of the merged task vector; of methods that yield a model for
            each task, of each task's.

    Returns:
        |sum of task vectors| / (M |merged|) for each, with LiNeS' L1 norms; 1 where
        nothing is merged.
    """
    members = list(variant.members)
    reading = {name: [variant] for name in cohort.parameters}
    summed = 0.0
    for piece in cohort.pieces(reading):
        for block in cohort.blocks(piece, {}):
            total = block.raw_task_vectors()[members].sum(dim=0)
            summed += float(total.abs().sum(dtype=torch.float64))
    return [
        summed / (len(members) * length) if length > 0 else 1.0 for length in lengths
    ]
