"""Descriptions for the command line: of methods, models and what a merge will do."""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from mergegrid.checkpoints import REPORT, Checkpoint
from mergegrid.layout import differences, untie
from mergegrid.merge_report import origin_lines
from mergegrid.methods.method import Method, Need
from mergegrid.preflight import Preflight
from mergegrid.sizes import show_size


def describe_method(method: Method) -> dict[str, Any]:
    """Describe a method as plain values.

    Args:
        method: the method.

    Returns:
        Name, title, version, needs (whatever the options, and with some of them),
        coverage and fallback, numbers of experts, whether it yields a model for each
        task, the JSON schema of every option, the default sweep, how operations are
        counted, and the source.
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
        "paper_flops": _counted(method.paper_flops),
        "source": method.source,
    }


def method_lines(described: Mapping[str, Any]) -> list[str]:
    """Write a method's description for people.

    Args:
        described: from `describe_method`.

    Returns:
        Lines.
    """
    # Norms and thresholds are computed from parameters, where they are needed.
    computed = {Need.NORMS, Need.TRIM}
    given = [need for need in described["needs"] if need not in computed]
    needs = " and ".join(given) or "nothing but the experts"
    for setting, further in described["needs_if"].items():
        asked = [need for need in further if need not in computed]
        needs += f"; with {setting}, {' and '.join(asked)}" if asked else ""
    kind = "; a model per task" if described["models"] == "per task" else ""
    lines = [f"{described['name']}  ({described['title']}; needs {needs}{kind})"]
    lines += [
        f"    {option} = {json.dumps(facts['default'])}{_allowed(facts)}: "
        f"{facts['description']}"
        for option, facts in described["options"].items()
    ]
    return [*lines, f"    {described['source']}"]


def model_lines(checkpoint: Checkpoint) -> list[str]:
    """Say what is in a stored model.

    Args:
        checkpoint: the model.

    Returns:
        Lines: numbers by type, where it came from, tied tensors, and every tensor.

    Raises:
        InputError: if its report is none.
    """
    source = checkpoint.open()
    types: dict[str, int] = {}
    for info in source.infos.values():
        name = str(info.dtype).removeprefix("torch.")
        types[name] = types.get(name, 0) + info.entries
    size = sum(file.size() for file in checkpoint.files)
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(types.items()))
    files = "file" if len(checkpoint.files) == 1 else "files"
    lines = [
        f"{len(source.infos)} tensors, {sum(types.values()):,} numbers ({counts}), "
        f"{size:,} bytes in {len(checkpoint.files)} {files}"
    ]
    report = checkpoint.directory.inside(REPORT)
    if checkpoint.is_directory and report.is_file():
        lines += origin_lines(report)
    groups: dict[str, list[str]] = {}
    for name, first in untie({"": source}).items():
        groups.setdefault(first, []).append(name)
    lines += [
        f"tied: {' = '.join(names)}" for names in groups.values() if len(names) > 1
    ]
    return lines + [
        f"{name}  {list(info.shape)} {str(info.dtype).removeprefix('torch.')}"
        for name, info in source.infos.items()
    ]


def difference_lines(one: Checkpoint, other: Checkpoint) -> list[str]:
    """Say in what two stored models differ: names, shapes, types and values.

    Args:
        one: a model.
        other: another.

    Returns:
        Lines, one for each tensor that differs; or one that says that none does.
    """
    models = {one.text: one.open(), other.text: other.open()}
    lines = [f"{text[0].upper()}{text[1:]}." for text in differences(models, "refuse")]
    first, second = models.values()
    changed = 0
    for name in sorted(first.infos.keys() & second.infos.keys()):
        mine, theirs = first.infos[name], second.infos[name]
        if mine.shape != theirs.shape:
            continue
        if mine.dtype != theirs.dtype:
            lines.append(f"{name}  {mine.dtype} against {theirs.dtype}")
        a = first.read(name, 0, mine.entries).double()
        b = second.read(name, 0, theirs.entries).double()
        distance = (a - b).abs()
        unequal = int((distance > 0).sum())
        if unequal:
            changed += 1
            lines.append(
                f"{name}  {unequal:,} of {mine.entries:,} entries differ, by "
                f"{float(distance.max()):.3g} at most; relative L2 distance "
                f"{float(distance.norm() / a.norm().clamp(min=1e-300)):.3g}"
            )
    return lines or [f"No difference in {len(first.infos)} tensors."]


def preflight_lines(found: Preflight, *, is_long: bool) -> list[str]:
    """Say what a merge will do.

    Args:
        found: from `preflight`.
        is_long: whether to list every parameter that the method leaves to its fallback.

    Returns:
        Lines.
    """
    lines = [f"note: {note}" for note in found.notes]
    lines += [f"in part: {text}" for text in found.vocabulary]
    costs = found.costs
    if found.layout is not None and costs is not None:
        lines.append(
            f"{len(found.layout.infos)} tensors; reads {show_size(costs.bytes_to_read)}"
            f", writes {show_size(costs.bytes_to_write)} in {costs.files} "
            f"{'file' if costs.files == 1 else 'files'}, takes about "
            f"{show_size(costs.memory)} of memory and {costs.flops:.3g} FLOPs"
        )
    if found.others:
        names = ", ".join(found.others) if is_long else f"{len(found.others)} tensors"
        lines.append(f"not covered by the method, left to its fallback: {names}")
    if is_long:
        lines += [f"fault: {fault}" for fault in found.faults]
    return lines


def _counted(function: Callable[..., float] | None) -> str | None:
    """Give how a function counts: what its docstring says that it returns."""
    if function is None:
        return None
    text = inspect.getdoc(function) or ""
    returns = text.partition("Returns:")[2].partition("Source:")[0]
    summary = text.partition("\n")[0]
    return " ".join(f"{summary} {returns}".split())


def _allowed(facts: Mapping[str, Any]) -> str:
    if "enum" in facts:
        return f" ({' | '.join(map(str, facts['enum']))})"
    words = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "exclusiveMaximum": "below",
    }
    bounds = [f"{word} {facts[key]:g}" for key, word in words.items() if key in facts]
    return f" ({', '.join(bounds)})" if bounds else ""
