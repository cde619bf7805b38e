"""Statistics that experts come with, checked against the experts' parameters."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mergegrid.errors import LayoutError, MissingPrerequisiteError
from mergegrid.layout import Layout
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Coverage, Need
from mergegrid.methods.options import Option
from mergegrid.sources import InMemory, Source

Statistics: TypeAlias = Mapping[Need, Mapping[str, Any]]
"""Need to expert to what was measured. Fisher information by name of the parameter,
Gram matrices of inputs and of output gradients by name of the weight (mappings of
tensors, or sources of them), squared L2 norms by name of the parameter, trim thresholds
by density. What is of all experts together, by name of the parameter, stands under one
name of any kind instead of the experts' names: given signs, and learned coefficients,
[expert]."""

FROM_DATA = (Need.FISHER, Need.GRAM, Need.GRADIENT)
"""The statistics that cannot be computed from parameters alone."""

OF_ALL = (Need.SIGNS, Need.COEFFICIENTS)
"""Those that are of all experts together."""

ARGUMENTS = {
    "fisher": Need.FISHER,
    "grams": Need.GRAM,
    "gradients": Need.GRADIENT,
    "signs": Need.SIGNS,
    "coefficients": Need.COEFFICIENTS,
}
"""The tensors that methods take from statistics, and where they come from."""


class Measured:
    """What was measured on a cohort of experts, tensor by tensor.

    Args:
        statistics: what was measured.
        experts: names of the experts, in order.
        layout: of the experts.

    Raises:
        LayoutError: if a statistic is of an unknown parameter or of the wrong shape.
    """

    def __init__(
        self, statistics: Statistics, experts: list[str], layout: Layout
    ) -> None:
        self.experts = experts
        self.sources: dict[Need, list[Source | None]] = {}
        """Need to the source of every expert, where any expert has one."""
        self.names: dict[Need, list[dict[str, str]]] = {}
        """The same, to the name of a merged tensor to its name in the source."""
        for need in (*FROM_DATA, *OF_ALL):
            given = statistics.get(need, {})
            owners = list(given)[:1] if need in OF_ALL else experts
            lacking = [owner for owner in owners if owner not in given]
            if len(lacking) == len(owners):
                continue
            self.sources[need] = [
                _as_source(given[owner]) if owner in given else None for owner in owners
            ]
            self.names[need] = [
                {}
                if source is None
                else _checked(need, owner, source, layout, len(experts))
                for owner, source in zip(owners, self.sources[need], strict=True)
            ]

    def has(self, need: Need, name: str, members: Sequence[int]) -> bool:
        """Tell whether a parameter has a statistic in every expert that is merged.

        A parameter that lacks it in one expert is treated alike in all of them.

        Args:
            need: the statistic.
            name: the parameter.
            members: which experts are merged.

        Returns:
            Whether it has.
        """
        if need not in self.names:
            return False
        of_experts = self.names[need]
        owners = [0] if need in OF_ALL else members
        return all(name in of_experts[owner] for owner in owners)

    def lacks(
        self,
        method: Method,
        options: Mapping[str, Option],
        name: str,
        members: Sequence[int],
    ) -> bool:
        """Tell whether a method must leave a parameter out for want of statistics.

        Args:
            method: the method.
            options: its options.
            name: the parameter.
            members: which experts are merged.

        Returns:
            Whether a statistic that the method needs is missing.
        """
        return any(
            not self.has(need, name, members)
            for need in method.needs_of(options)
            if need in {*FROM_DATA, *OF_ALL}
        )

    def read(self, need: Need, name: str, start: int, stop: int) -> list[Tensor]:
        """Read a stretch of one parameter's statistic of every expert.

        Args:
            need: the statistic.
            name: a parameter that has it.
            start: index of the first entry of the parameter.
            stop: index after the last one.

        Returns:
            For each expert, flat entries start to stop; of what belongs to a parameter
            as a whole, all entries.
        """
        found: list[Tensor | None] = []
        for source, names in zip(self.sources[need], self.names[need], strict=True):
            if source is None or name not in names:
                found.append(None)
                continue
            own = names[name]
            if need in {Need.GRAM, Need.GRADIENT, Need.COEFFICIENTS}:
                found.append(source.read(own, 0, source.infos[own].entries))
            else:
                found.append(source.read(own, start, stop))
        # Experts that lack it take no part in merges that need it.
        size = max(row.numel() for row in found if row is not None)
        return [torch.zeros(size) if row is None else row for row in found]

    def require(
        self, method: Method, options: Mapping[str, Option], members: Sequence[int]
    ) -> None:
        """Check that every statistic is there that a method cannot do without.

        Args:
            method: the method.
            options: its options.
            members: which experts are merged.

        Raises:
            MissingPrerequisiteError: if one is not.
        """
        needs = [
            need for need in (*FROM_DATA, *OF_ALL) if need in method.needs_of(options)
        ]
        for need in needs:
            sources = self.sources.get(need)
            if need in OF_ALL and sources is None:
                raise MissingPrerequisiteError(
                    f"{method.name} needs {_GIVEN[need]} for every parameter, under "
                    f"the statistic {need.value!r}."
                )
            for member in members if need not in OF_ALL else ():
                if sources is None or sources[member] is None:
                    raise MissingPrerequisiteError(
                        f"{method.name} needs the {need} statistic of expert "
                        f"{self.experts[member]!r}: measure it, and pass it under that "
                        f"name."
                    )
        for need in needs:
            owners = [0] if need in OF_ALL else members
            of_owners = [set(self.names[need][owner]) for owner in owners]
            if not set[str].intersection(*of_owners):
                raise MissingPrerequisiteError(
                    f"{method.name} has nothing to work on: no parameter has a {need} "
                    f"statistic in every expert."
                )


def is_covered(method: Method, shape: tuple[int, ...]) -> bool:
    """Tell whether a parameter's shape is one that a method is for.

    Args:
        method: the method.
        shape: the parameter's shape.

    Returns:
        Whether it is; statistics that are missing are another matter.
    """
    return method.coverage is Coverage.ALL or len(shape) == 2


def _as_source(given: Mapping[str, Tensor] | Source) -> Source:
    return InMemory(given) if isinstance(given, Mapping) else given


_GIVEN = {
    Need.SIGNS: "given signs: a tensor of -1, 0 and 1",
    Need.COEFFICIENTS: "learned coefficients: a number for each expert",
}

_LABELS = {
    Need.SIGNS: "The given signs",
    Need.COEFFICIENTS: "The learned coefficients",
}


def _checked(
    need: Need, owner: str, source: Source, layout: Layout, experts: int
) -> dict[str, str]:
    label = _LABELS.get(need, f"The {need} statistic of expert {owner!r}")
    names: dict[str, str] = {}
    for name in sorted(source.infos):
        if name not in layout.infos:
            raise LayoutError(f"{label} has {name!r}, which is none of its parameters.")
        shape = layout.shapes[name]
        if need is Need.COEFFICIENTS:
            shape = (experts,)
        if need in {Need.GRAM, Need.GRADIENT}:
            if len(shape) != 2:
                raise LayoutError(
                    f"{label} has {name!r}, which is no weight of a linear layer: its "
                    f"shape is {shape}."
                )
            width = shape[1] if need is Need.GRAM else shape[0]
            shape = (width, width)
        found = source.infos[name].shape
        # Of a vocabulary that is merged in part, a statistic may have all rows.
        has_rows = len(found) == len(shape) and (
            not shape or (found[0] >= shape[0] and found[1:] == shape[1:])
        )
        is_cut = need is Need.FISHER and shape != layout.infos[name].shape
        if found != shape and not (is_cut and has_rows):
            raise LayoutError(
                f"{label} has {name!r} with shape {found}, instead of {shape}."
            )
        names[layout.first_name[name]] = name
    return names
