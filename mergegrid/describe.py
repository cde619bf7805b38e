"""Descriptions of methods, for people and for programs."""

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need

COMPUTED = (Need.NORMS, Need.TRIM)
"""What is computed from parameters where it is needed, so that nobody must give it."""

COLUMNS = ("name", "method", "needs", "covers", "experts", "models", "FLOPs")
"""The table's columns."""


def describe_method(method: Method) -> dict[str, Any]:
    """Describe a method as plain values.

    Args:
        method: the method.

    Returns:
        Name, title, version, needs (whatever the options, with some of them, and with
        the defaults), coverage and fallback, numbers of experts, whether it yields a
        model for each task, the JSON schema of every option, the default sweep, how
        operations are counted, and the source.
    """
    schema = method.options.model_json_schema()["properties"]
    return {
        "name": method.name,
        "title": method.title,
        "version": method.version,
        "needs": sorted(need.value for need in method.needs),
        "needs_if": {
            f"{option}={value}": sorted(need.value for need in needs)
            for (option, value), needs in method.needs_if.items()
        },
        "needs_by_default": sorted(
            need.value for need in method.needs_of(method.recipe().options)
        ),
        "covers": method.coverage.value,
        "fallback": method.fallback.value,
        "experts": list(method.experts),
        "models": "per task" if method.per_task else "one",
        "options": {
            option: {key: value for key, value in facts.items() if key != "title"}
            for option, facts in schema.items()
        },
        "sweep": {option: list(values) for option, values in method.sweep.items()},
        "flops": _counted(method.flops),
        "flops_per_entry": _flops_per_entry(method),
        "paper_flops": _counted(method.paper_flops),
        "source": method.source,
    }


def method_table(described: Iterable[Mapping[str, Any]]) -> list[str]:
    """Draw the table of methods.

    Args:
        described: each from `describe_method`.

    Returns:
        Lines: a heading, and one for each method. FLOPs are those of merging an entry
        of a 1000 x 1000 matrix of two experts with the default options.
    """
    rows: list[Sequence[str]] = [COLUMNS]
    for method in described:
        fewest, most = method["experts"]
        several = f"{fewest}-{most}" if most else f"{fewest}+"
        rows.append(
            (
                method["name"],
                method["title"],
                ", ".join(_given(method["needs_by_default"])) or "-",
                method["covers"],
                f"{fewest}" if fewest == most else several,
                method["models"],
                f"{method['flops_per_entry']:.4g}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def method_lines(described: Mapping[str, Any]) -> list[str]:
    """Write a method's description for people.

    Args:
        described: from `describe_method`.

    Returns:
        Lines.
    """
    needs = " and ".join(_given(described["needs"])) or "nothing but the experts"
    for setting, further in described["needs_if"].items():
        asked = _given(further)
        needs += f"; with {setting}, {' and '.join(asked)}" if asked else ""
    kind = "; a model per task" if described["models"] == "per task" else ""
    return [
        f"{described['name']}  ({described['title']}; needs {needs}{kind})",
        *_option_lines(described["options"]),
        f"    {described['source']}",
    ]


def _given(needs: Iterable[str]) -> list[str]:
    return [need for need in needs if need not in COMPUTED]


def _option_lines(options: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for option, facts in options.items():
        default = json.dumps(facts["default"])
        yield f"    {option} = {default}{_allowed(facts)}: {facts['description']}"


def _allowed(facts: Mapping[str, Any]) -> str:
    if "enum" in facts:
        return f" ({' | '.join(map(str, facts['enum']))})"
    # Of one value, where there may be several.
    facts = {**facts.get("anyOf", [{}])[0], **facts}
    words = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "exclusiveMaximum": "below",
    }
    bounds = [f"{word} {facts[key]:g}" for key, word in words.items() if key in facts]
    return f" ({', '.join(bounds)})" if bounds else ""


def _counted(function: Callable[..., float] | None) -> str | None:
    """Give how a function counts: what its docstring says that it returns."""
    if function is None:
        return None
    text = inspect.getdoc(function) or ""
    returns = text.partition("Returns:")[2].partition("Source:")[0]
    summary = text.partition("\n")[0]
    return " ".join(f"{summary} {returns}".split())


def _flops_per_entry(method: Method) -> float:
    shape = (1000, 1000)
    options = method.recipe().options
    return method.flops(shape, 2, **options) / (shape[0] * shape[1])
