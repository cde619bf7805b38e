"""Statistics that experts come with, checked against the experts' parameters."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mergegrid.errors import LayoutError, MissingPrerequisiteError, NonFiniteError
from mergegrid.methods.method import Method, Need
from mergegrid.parameters import Parameters, is_finite

Statistics: TypeAlias = Mapping[Need, Mapping[str, Any]]
"""Need to expert to what was measured: Fisher information by name of the parameter,
Gram matrices by name of the weight, squared L2 norms by name of the parameter, trim
thresholds by density."""

FROM_DATA = (Need.FISHER, Need.GRAM)
"""The statistics that cannot be computed from parameters alone."""


class Measured:
    """The Fisher information and Gram matrices of a cohort of experts.

    Args:
        statistics: what was measured.
        experts: parameters by expert.
        first_name: every name to the one under which its tensor is merged.

    Raises:
        LayoutError: if a statistic is of an unknown parameter or of the wrong shape.
        NonFiniteError: if a statistic holds NaN or infinity.
    """

    def __init__(
        self,
        statistics: Statistics,
        experts: Mapping[str, Parameters],
        first_name: Mapping[str, str],
    ) -> None:
        self.experts = list(experts)
        self.tensors: dict[Need, dict[str, dict[str, Tensor]]] = {}
        """Need to expert to name to tensor, under the names of merged tensors."""
        for need in FROM_DATA:
            given = statistics.get(need, {})
            self.tensors[need] = {
                expert: _checked(need, expert, given[expert], parameters, first_name)
                for expert, parameters in experts.items()
                if expert in given
            }

    def covered(self, need: Need) -> list[str]:
        """List the parameters whose statistic every expert has.

        A parameter that lacks it in one expert is treated alike in all of them.

        Args:
            need: `Need.FISHER` or `Need.GRAM`.

        Returns:
            Their names, sorted.
        """
        by_expert = self.tensors[need]
        if len(by_expert) < len(self.experts):
            return []
        return sorted(set[str].intersection(*map(set, by_expert.values())))

    def stack(self, need: Need, name: str, device: torch.device) -> Tensor:
        """Put one parameter's statistic of every expert together.

        Args:
            need: `Need.FISHER` or `Need.GRAM`.
            name: a covered parameter.
            device: where the experts are.

        Returns:
            [expert, *shape of the statistic], float32.
        """
        return torch.stack(
            [
                self.tensors[need][expert][name].to(device, torch.float32)
                for expert in self.experts
            ]
        )

    def require(self, method: Method) -> None:
        """Check that every statistic is there that a method cannot do without.

        Args:
            method: the method.

        Raises:
            MissingPrerequisiteError: if one is not.
        """
        for need in FROM_DATA:
            if need not in method.needs:
                continue
            for expert in self.experts:
                if expert not in self.tensors[need]:
                    raise MissingPrerequisiteError(
                        f"{method.name} needs the {need} statistic of expert "
                        f"{expert!r}: measure it, and pass it under that name."
                    )
            if not self.covered(need):
                raise MissingPrerequisiteError(
                    f"{method.name} has nothing to work on: no parameter has a {need} "
                    f"statistic in every expert."
                )


def _checked(
    need: Need,
    expert: str,
    statistic: Mapping[str, Tensor],
    parameters: Parameters,
    first_name: Mapping[str, str],
) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name in sorted(statistic):
        label = f"The {need} statistic of expert {expert!r}"
        if name not in parameters:
            raise LayoutError(f"{label} has {name!r}, which is none of its parameters.")
        shape = tuple(parameters[name].shape)
        if need is Need.GRAM:
            if len(shape) != 2:
                raise LayoutError(
                    f"{label} has {name!r}, which is no weight of a linear layer: its "
                    f"shape is {shape}."
                )
            shape = (shape[1], shape[1])
        if tuple(statistic[name].shape) != shape:
            raise LayoutError(
                f"{label} has {name!r} with shape {tuple(statistic[name].shape)}, "
                f"instead of {shape}."
            )
        if not is_finite(statistic[name]):
            raise NonFiniteError(f"{label} has NaN or infinity at {name!r}.")
        tensors[first_name[name]] = statistic[name]
    return tensors
