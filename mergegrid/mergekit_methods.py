"""mergekit's methods: their parameters, and the same merge in terms of ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.mergekit_parameters import Value
from mergegrid.methods.options import Option
from mergegrid.methods.weighting import NO_WEIGHT, cancel

Values: TypeAlias = Mapping[str, Any]
"""Every parameter of a method for one tensor: a number or boolean, or for those of
`OF_A_MODEL` a tuple with the number of each expert."""

Translation: TypeAlias = tuple[str, dict[str, Option]]
"""A method of ours, and its options as far as they are not the default."""


@dataclass(frozen=True)
class MergekitMethod:
    """What a method of mergekit's asks for, and what it is here."""

    parameters: Mapping[str, Value | None]
    """The parameters with an effect, and their defaults; None where there is none."""

    translate: Callable[[Values], Translation]
    """Turns their values into a method and options."""

    models: tuple[int, int | None]
    """The fewest and the most models, besides a base model that is needed."""

    base: Literal["pretrained", "first", "any"] = "pretrained"
    """What the base model is: what all others were fine-tuned from, the first of those
    that are merged, or any of them. Only then there may be none."""


def _linear(values: Values) -> Translation:
    weights = values["weight"]
    if not values["normalize"]:
        return "average", {"weights": weights, "normalize": False}
    if cancel(weights):
        raise InputError("the weights add up to zero, by which normalize divides.")
    return "average", {"weights": weights}


def _passthrough(values: Values) -> Translation:
    if values["scale"] == (1.0,):
        return "average", {}
    return "average", {"weights": values["scale"], "normalize": False}


def _slerp(values: Values) -> Translation:
    return "slerp", {"t": values["t"], "scope": "tensor"}


def _model_stock(values: Values) -> Translation:
    if values["filter_wise"]:
        raise InputError("filter_wise is not supported.")
    return "model_stock", {"scope": "tensor", "clamp": False}


def _task_arithmetic(values: Values) -> Translation:
    return "task_arithmetic", _summed(values)


def _ties(values: Values) -> Translation:
    _refuse_rescaling(values)
    return "ties", _agreeing(values) | {
        "density": _each(values["density"]),
        "selection": "at_least_one",
    }


def _dare_linear(values: Values) -> Translation:
    return "dare", _summed(values) | _thinned(values)


def _dare_ties(values: Values) -> Translation:
    # Nothing is trimmed after thinning.
    return "dare_ties", _agreeing(values) | _thinned(values) | {"density": 1.0}


def _della(values: Values) -> Translation:
    options = _agreeing(values) | _thinned(values) | _window(values)
    return "della", options | {"election": "mass"}


def _della_linear(values: Values) -> Translation:
    options = _summed(values) | _thinned(values) | _window(values)
    return "della", options | {"election": "none"}


def _breadcrumbs(values: Values) -> Translation:
    return "breadcrumbs", _summed(values) | _masked(values) | {"election": "none"}


def _breadcrumbs_ties(values: Values) -> Translation:
    return "breadcrumbs", _agreeing(values) | _masked(values) | {"election": "mass"}


def _summed(values: Values) -> dict[str, Option]:
    weights, total = values["weight"], values["total"]
    if values["normalize"] and abs(total) >= NO_WEIGHT:
        weights = tuple(weight / total for weight in weights)
    return _weighted(weights, values)


def _agreeing(values: Values) -> dict[str, Option]:
    return _weighted(values["weight"], values) | {
        "scope": "tensor",
        "zero_sum": "plus",
        "aggregate": "mean" if values["normalize"] else "sum",
    }


def _weighted(weights: tuple[float, ...], values: Values) -> dict[str, Option]:
    options: dict[str, Option] = {"scale": values["lambda"]}
    return options if set(weights) == {1.0} else options | {"weights": weights}


def _thinned(values: Values) -> dict[str, Option]:
    return {
        "drop_rate": _each(tuple(map(_one_minus, values["density"]))),
        "rescale": "norm" if values["rescale"] else "none",
    }


def _window(values: Values) -> dict[str, Option]:
    widths: list[float] = []
    for density, epsilon in zip(values["density"], values["epsilon"], strict=True):
        if density < 1 and not epsilon < density < 1 - epsilon:
            raise InputError(
                f"density {density} plus and minus epsilon {epsilon} should be above 0 "
                f"and below 1."
            )
        # Where all is kept, small entries are not dropped more often.
        widths.append(2 * epsilon if density < 1 else 0.0)
    return {"window": _each(tuple(widths))}


def _masked(values: Values) -> dict[str, Option]:
    _refuse_rescaling(values)
    return {
        "keep": _each(values["density"]),
        "outliers": _each(values["gamma"]),
        "extent": "tensor",
    }


def _refuse_rescaling(values: Values) -> None:
    if values["rescale"]:
        raise InputError("rescale is not supported here; it is for dare_* and della*.")


def _each(numbers: tuple[float, ...]) -> Option:
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _one_minus(density: float) -> float:
    # Of the decimal as it is written: 1 - 0.7 is 0.3.
    return float(1 - Fraction(str(density)))


def _settled(values: Values) -> Values:
    """Say the same with densities above 0 and not above 1.

    Nothing is left of a task vector with no density, as with no weight. What else is
    written for an expert that counts for nothing is of no account, so that it gets what
    another has.

    Args:
        values: the parameters of a method on task vectors.

    Returns:
        The parameters, and the sum of weights as they were.
    """
    weights = values["weight"]
    densities = values.get("density", (1.0,) * len(weights))
    used = [
        index
        for index, (weight, density) in enumerate(zip(weights, densities, strict=True))
        if weight != 0 and density > 0
    ]
    settled: dict[str, Any] = {
        "total": sum(weights),
        "weight": tuple(w if i in used else 0.0 for i, w in enumerate(weights)),
    }
    for name in values.keys() & {"density", "gamma", "epsilon"}:
        numbers = tuple(min(number, 1.0) for number in values[name])
        other = numbers[used[0]] if used else 1.0
        settled[name] = tuple(n if i in used else other for i, n in enumerate(numbers))
    return {**values, **settled}


def _task_vectors(
    translate: Callable[[Values], Translation], *, normalize: bool, **others: Value
) -> MergekitMethod:
    parameters = {"weight": None, "normalize": normalize, "lambda": 1.0, **others}
    return MergekitMethod(
        parameters, lambda values: translate(_settled(values)), (1, None)
    )


METHODS: Mapping[str, MergekitMethod] = MappingProxyType(
    {
        "linear": MergekitMethod(
            {"weight": None, "normalize": True}, _linear, (1, None), base="any"
        ),
        "slerp": MergekitMethod({"t": None}, _slerp, (1, 1), base="first"),
        "task_arithmetic": _task_vectors(_task_arithmetic, normalize=False),
        "ties": _task_vectors(_ties, normalize=True, density=1.0, rescale=False),
        "dare_ties": _task_vectors(
            _dare_ties, normalize=False, density=1.0, rescale=True
        ),
        "dare_linear": _task_vectors(
            _dare_linear, normalize=False, density=1.0, rescale=True
        ),
        "della": _task_vectors(
            _della, normalize=True, density=1.0, rescale=True, epsilon=0.15
        ),
        "della_linear": _task_vectors(
            _della_linear, normalize=False, density=1.0, rescale=True, epsilon=0.15
        ),
        "breadcrumbs": _task_vectors(
            _breadcrumbs, normalize=False, density=1.0, rescale=False, gamma=0.01
        ),
        "breadcrumbs_ties": _task_vectors(
            _breadcrumbs_ties, normalize=False, density=1.0, rescale=False, gamma=0.01
        ),
        "model_stock": MergekitMethod({"filter_wise": False}, _model_stock, (2, None)),
        "passthrough": MergekitMethod({"scale": 1.0}, _passthrough, (1, 1), base="any"),
    }
)
"""mergekit's methods by its names."""


def get_mergekit_method(name: str) -> MergekitMethod:
    """Look a method of mergekit's up.

    Args:
        name: mergekit's name for it.

    Returns:
        The method.

    Raises:
        UnknownNameError: if it is not one that is supported.
    """
    if name not in METHODS:
        raise UnknownNameError("merge method of mergekit's", name, METHODS)
    return METHODS[name]
