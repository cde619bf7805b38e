"""mergekit's parameters: values that may depend on model, layer and tensor.

A parameter is written as one value; as a list of values, a *gradient*, which is spread
over the layers from first to last; or as a list of conditions, each with a value or a
gradient and the part of a tensor's name that it is for. It may be written at several
places, of which the most specific one that has a value for a tensor decides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from mergegrid.errors import InputError, UnknownNameError

Value: TypeAlias = float | bool
"""What a parameter is for one tensor."""

KINDS: Mapping[str, type] = MappingProxyType(
    {
        "weight": float,
        "density": float,
        "gamma": float,
        "epsilon": float,
        "scale": float,
        "t": float,
        "lambda": float,
        "normalize": bool,
        "rescale": bool,
        "int8_mask": bool,
        "filter_wise": bool,
    }
)
"""The parameters of all methods that are read, and what their values are."""

OF_A_MODEL = frozenset({"weight", "density", "gamma", "epsilon", "scale"})
"""Those that every model has a value of its own for; the others are the merge's."""

# mergekit lets pydantic convert, too: 1e-3, which YAML takes for text, is a number.
_READERS: Mapping[type, TypeAdapter[Any]] = MappingProxyType(
    {
        float: TypeAdapter(Annotated[float, Field(allow_inf_nan=False)]),
        bool: TypeAdapter(bool),
    }
)


@dataclass(frozen=True)
class Condition:
    """A value, or several along the depth, for some of the tensors."""

    part: str | None
    """Part of the names of the tensors it is for; None for all of them."""

    gradient: tuple[Value, ...]
    """One value for every layer, or several from the first layer to the last."""

    def holds(self, tensor: str) -> bool:
        """Tell whether it is for a tensor.

        Args:
            tensor: the tensor's name.

        Returns:
            Whether it is.
        """
        return self.part in {None, "*"} or str(self.part) in tensor

    def value(self, depth: float) -> Value | None:
        """Read the value off at a layer.

        Args:
            depth: how far down the layer is, 0 for the first and 1 for the last.

        Returns:
            The value, interpolated between numbers, stepwise between others; None if
            the list of values is empty.
        """
        if not self.gradient:
            return None
        at = depth * (len(self.gradient) - 1)
        low = int(at)
        before = self.gradient[low]
        after = self.gradient[min(low + 1, len(self.gradient) - 1)]
        if isinstance(before, bool) or isinstance(after, bool):
            return before
        return (1 - (at - low)) * before + (at - low) * after


Setting: TypeAlias = tuple[Condition, ...]
"""What a parameter is at one place; the first condition that holds decides."""


@dataclass(frozen=True)
class Parameters:
    """The parameters that are written at one place of a file."""

    place: str
    """Where that is, such as `models[0].parameters`."""

    settings: Mapping[str, Setting]
    """What each of them is."""

    def value(self, name: str, tensor: str, depth: float) -> Value | None:
        """Give a parameter's value for one tensor.

        Args:
            name: the parameter.
            tensor: the tensor's name.
            depth: see `Condition.value`.

        Returns:
            The value; None if there is none here.
        """
        for condition in self.settings.get(name, ()):
            if condition.holds(tensor):
                return condition.value(depth)
        return None


def resolve(
    scopes: Iterable[Parameters], name: str, tensor: str, depth: float
) -> Value | None:
    """Find a parameter's value for one tensor.

    Args:
        scopes: the places where it may be written, the most specific one first.
        name: the parameter.
        tensor: the tensor's name.
        depth: see `Condition.value`.

    Returns:
        The value; None if there is none anywhere.
    """
    found = (scope.value(name, tensor, depth) for scope in scopes)
    return next((value for value in found if value is not None), None)


def read_parameters(given: object, place: str) -> Parameters:
    """Read the parameters at one place.

    Args:
        given: what is written there; None for nothing.
        place: where that is.

    Returns:
        The parameters.

    Raises:
        InputError: if one is unknown, or its value is not possible.
    """
    if given is None:
        return Parameters(place, MappingProxyType({}))
    if not isinstance(given, Mapping):
        raise InputError(f"{place}: there should be parameters by name, not {given!r}.")
    settings: dict[str, Setting] = {}
    for name, written in given.items():
        if name not in KINDS:
            unknown = UnknownNameError("parameter", str(name), KINDS)
            raise InputError(f"{place}.{name}: {unknown}")
        settings[name] = _setting(written, KINDS[name], f"{place}.{name}")
    return Parameters(place, MappingProxyType(settings))


def _setting(written: object, kind: type, place: str) -> Setting:
    if isinstance(written, Mapping):
        return (_condition(written, kind, place),)
    if not isinstance(written, list) or not any(
        isinstance(each, Mapping) for each in written
    ):
        return (Condition(None, _gradient(written, kind, place)),)
    conditions: list[Condition] = []
    for index, each in enumerate(written):
        if not isinstance(each, Mapping):
            raise InputError(
                f"{place}[{index}]: {each!r} stands among conditions; it should be "
                f"a condition too: value: {each!r}."
            )
        conditions.append(_condition(each, kind, f"{place}[{index}]"))
    return tuple(conditions)


def _condition(written: Mapping[Any, object], kind: type, place: str) -> Condition:
    for key in written:
        if key not in {"filter", "value"}:
            unknown = UnknownNameError("key", str(key), ("filter", "value"))
            raise InputError(f"{place}.{key}: {unknown}")
    if "value" not in written:
        raise InputError(f"{place}.value is missing.")
    part = written.get("filter")
    if not isinstance(part, str | None):
        raise InputError(
            f"{place}.filter: {part!r} should be part of a tensor's name, as text."
        )
    return Condition(part, _gradient(written["value"], kind, f"{place}.value"))


def _gradient(written: object, kind: type, place: str) -> tuple[Value, ...]:
    if isinstance(written, list):
        return tuple(
            _value(each, kind, f"{place}[{index}]")
            for index, each in enumerate(written)
        )
    return (_value(written, kind, place),)


def _value(written: object, kind: type, place: str) -> Value:
    try:
        return _READERS[kind].validate_python(written)
    except ValidationError:
        wanted = "a number" if kind is float else "true or false"
        raise InputError(f"{place}: {written!r} should be {wanted}.") from None
