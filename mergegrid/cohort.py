"""A cohort: the experts of a merge, and whatever several merges of them share."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mergegrid.errors import MissingPrerequisiteError
from mergegrid.measured import Measured, Statistics
from mergegrid.methods.method import Method, Need, Option
from mergegrid.parameters import Parameters, Role, check_models, role, untie
from mergegrid.randomness import uniform
from mergegrid.statistics.trim import TrimThreshold, trim_thresholds

LOGGER = logging.getLogger("mergegrid")


@dataclass
class Whole:
    """What is known about "the model" of one recipe, apart from single tensors."""

    norms: Tensor | None = None
    """L2 norm of each expert, float64."""

    trims: Sequence[TrimThreshold] = ()
    """Trim threshold of each expert."""

    survey: Tensor | None = None
    """The method's survey."""


class Cohort:
    """Experts that are merged together, in one or more ways.

    Args:
        experts: parameters by expert, of one layout.
        pretrained: what they were fine-tuned from, in the same layout.
        statistics: what was measured on each expert.
        seed: for methods that draw at random.

    Raises:
        InputError: if there is nothing to merge.
        LayoutError: if models or statistics do not fit one another.
        NonFiniteError: if there is NaN or infinity in one of them.
    """

    def __init__(
        self,
        experts: Mapping[str, Parameters],
        pretrained: Parameters | None,
        statistics: Statistics,
        *,
        seed: int,
    ) -> None:
        models = {f"expert {name!r}": model for name, model in experts.items()}
        if pretrained is not None:
            models["pretrained model"] = pretrained
        check_models(models)
        self.experts = dict(experts)
        self.pretrained = pretrained
        self.first_name = untie(models)
        """Every name to the one under which its tensor is merged."""
        self.measured = Measured(statistics, self.experts, self.first_name)
        self.reference = (
            next(iter(self.experts.values())) if pretrained is None else pretrained
        )
        """The model whose types the merged model takes, and what is copied."""
        self.roles = {
            name: role(name, self.reference[name]) for name in self.first_name
        }
        self.parameters = [
            name
            for name, first in self.first_name.items()
            if first == name and self.roles[name] is Role.MERGED
        ]
        """The parameters to merge, each tensor once, sorted."""
        self._statistics = statistics
        self._seed = seed
        self._unchanged: dict[bool, frozenset[str]] = {}
        self._task_vectors: dict[str, Tensor] = {}
        self._squared_norms: dict[tuple[str, str], float] = {}

    def require(self, method: Method) -> None:
        """Check that everything is there that a method cannot do without.

        Args:
            method: the method.

        Raises:
            MissingPrerequisiteError: if something is not.
        """
        if Need.PRETRAINED in method.needs and self.pretrained is None:
            raise MissingPrerequisiteError(
                f"{method.name} needs the pretrained parameters: pass them as "
                f"`pretrained`."
            )
        self.measured.require(method)

    def unchanged(self, method: Method) -> frozenset[str]:
        """Find the parameters that are the same in all models that a method reads.

        They are copied, since nothing is to be merged: norms and angles are those of
        what was fine-tuned, with or without frozen towers in the same file.

        Args:
            method: the method.

        Returns:
            Their names.
        """
        with_base = Need.PRETRAINED in method.needs
        if with_base not in self._unchanged:
            models = [*self.experts.values(), *([self.reference] if with_base else [])]
            self._unchanged[with_base] = frozenset(
                name
                for name in self.parameters
                if all(
                    torch.equal(models[0][name], other[name]) for other in models[1:]
                )
            )
        return self._unchanged[with_base]

    def mergeable(self, method: Method) -> list[str]:
        """List the parameters that a method's mathematics applies to.

        Args:
            method: the method.

        Returns:
            Names, sorted; all other parameters are copied or averaged.
        """
        names = [name for name in self.parameters if name not in self.unchanged(method)]
        for need in (Need.FISHER, Need.GRAM):
            if need in method.needs:
                covered = set(self.measured.covered(need))
                averaged = [name for name in names if name not in covered]
                if averaged:
                    LOGGER.debug(
                        "%s averages what has no %s statistic: %s",
                        method.name,
                        need,
                        ", ".join(averaged),
                    )
                names = [name for name in names if name in covered]
        return names

    def stack(self, name: str) -> Tensor:
        """Put one parameter of every expert together.

        Args:
            name: the parameter.

        Returns:
            [expert, *shape], float32.
        """
        return torch.stack([model[name].float() for model in self.experts.values()])

    def base(self, name: str) -> Tensor:
        """Look a pretrained parameter up.

        Args:
            name: the parameter.

        Returns:
            [*shape], float32.
        """
        return self.reference[name].float()

    def task_vectors(self, name: str) -> Tensor:
        """Subtract the pretrained parameter from every expert's, once for all merges.

        Args:
            name: the parameter.

        Returns:
            [expert, *shape], float32.
        """
        if name not in self._task_vectors:
            self._task_vectors[name] = self.stack(name).sub_(self.base(name))
        return self._task_vectors[name]

    def whole(
        self, method: Method, options: Mapping[str, Option], names: Sequence[str]
    ) -> Whole:
        """Measure what a method asks about the model as a whole: the first pass.

        Args:
            method: the method.
            options: the recipe's options.
            names: the parameters that are the model to this recipe.

        Returns:
            What the method asks for.
        """
        asked = {*method.arguments, *method.surveyed}
        whole = Whole()
        if "norms" in asked:
            whole.norms = self._norms(names)
        if "thresholds" in asked:
            whole.trims = self._trims(options, names)
        if method.survey is not None:
            kept = {name: options[name] for name in method.surveyed_options}
            for name in names:
                tensors = self.arguments(method.surveyed, name, whole)
                part = method.survey(*tensors, **kept)
                whole.survey = part if whole.survey is None else whole.survey + part
        return whole

    def arguments(self, wanted: Sequence[str], name: str, whole: Whole) -> list[Tensor]:
        """Collect the tensors that a method takes for one parameter.

        Args:
            wanted: which, by the names of `mergegrid.methods.method`.
            name: the parameter.
            whole: what is known about the model as a whole.

        Returns:
            The tensors, in the order of `wanted`.
        """
        return [self._argument(argument, name, whole) for argument in wanted]

    def _argument(self, argument: str, name: str, whole: Whole) -> Tensor:
        device = self.reference[name].device
        match argument:
            case "experts":
                return self.stack(name)
            case "pretrained":
                return self.base(name)
            case "task_vectors":
                return self.task_vectors(name)
            case "fisher":
                return self.measured.stack(Need.FISHER, name, device)
            case "grams":
                return self.measured.stack(Need.GRAM, name, device)
            case "thresholds":
                numbers = [trim.threshold for trim in whole.trims]
                return torch.tensor(numbers, dtype=torch.float32, device=device)
            case "ties_kept":
                counts = [self._ties_kept(trim, name) for trim in whole.trims]
                return torch.tensor(counts, dtype=torch.int64, device=device)
            case "uniform":
                shape = tuple(self.reference[name].shape)
                draws = [
                    uniform(self._seed, expert, name, shape) for expert in self.experts
                ]
                return torch.stack(draws).to(device)
            case "norms" if whole.norms is not None:
                return whole.norms.to(device)
            case "survey" if whole.survey is not None:
                return whole.survey.to(device)
            case _:
                raise AssertionError(f"The engine has no {argument!r} for a method.")

    def _ties_kept(self, trim: TrimThreshold, name: str) -> int:
        # A threshold measured on a tied tensor may name it otherwise.
        return next(
            (
                count
                for other, count in trim.ties_kept.items()
                if self.first_name.get(other) == name
            ),
            0,
        )

    def _norms(self, names: Sequence[str]) -> Tensor:
        squares = [
            sum(self._squared_norm(expert, name) for name in names)
            for expert in self.experts
        ]
        return torch.tensor(squares, dtype=torch.float64).sqrt()

    def _squared_norm(self, expert: str, name: str) -> float:
        given = self._statistics.get(Need.NORMS, {}).get(expert, {})
        if name in given:
            return float(given[name])
        if (expert, name) not in self._squared_norms:
            square = self.experts[expert][name].double().square().sum()
            self._squared_norms[expert, name] = float(square)
        return self._squared_norms[expert, name]

    def _trims(
        self, options: Mapping[str, Option], names: Sequence[str]
    ) -> list[TrimThreshold]:
        density = options["density"]
        given = self._statistics.get(Need.TRIM, {})
        is_whole = options.get("scope") != "tensor"
        # Trimming counts every parameter of the model, unchanged ones included.
        counted = self.parameters if is_whole else names
        return [
            given[expert][density]
            if is_whole and density in given.get(expert, {})
            else trim_thresholds(
                {name: self.task_vectors(name)[index] for name in counted}, [density]
            )[density]
            for index, expert in enumerate(self.experts)
        ]
