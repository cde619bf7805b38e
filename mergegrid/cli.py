"""The library's command line: `mergegrid merge`, `methods` and `inspect`."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mergegrid.checkpoints import REPORT, find_checkpoint
from mergegrid.errors import InputError, MergegridError
from mergegrid.methods import METHODS
from mergegrid.methods.method import Method, Need, Option
from mergegrid.recipe_file import merge_file


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows `mergegrid`; None for the process's own.

    Returns:
        Exit status: 0, or 2 after an error that the user can mend.
    """
    chosen = _parser().parse_args(arguments)
    try:
        text = chosen.run(chosen)
    except MergegridError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    sys.stdout.write(f"{text}\n")
    return 0


def describe_method(method: Method) -> dict[str, Any]:
    """Describe a method as plain values.

    Args:
        method: the method.

    Returns:
        Name, title, version, needs, coverage, numbers of experts, the JSON schema of
        every option, the default sweep and the source.
    """
    schema = method.options.model_json_schema()["properties"]
    return {
        "name": method.name,
        "title": method.title,
        "version": method.version,
        "needs": sorted(need.value for need in method.needs),
        "covers": method.coverage.value,
        "experts": list(method.experts),
        "options": {
            option: {key: value for key, value in facts.items() if key != "title"}
            for option, facts in schema.items()
        },
        "sweep": {option: list(values) for option, values in method.sweep.items()},
        "source": method.source,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mergegrid", description="Merge models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    merging = commands.add_parser("merge", help="merge models as a recipe file says")
    merging.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    merging.add_argument("out", type=Path, metavar="OUT_DIR")
    merging.set_defaults(run=_merge)

    listing = commands.add_parser("methods", help="list the methods and their options")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(run=_methods)

    inspecting = commands.add_parser("inspect", help="say what is in a model")
    inspecting.add_argument("model", type=Path, metavar="DIR")
    inspecting.set_defaults(run=_inspect)
    return parser


def _merge(chosen: argparse.Namespace) -> str:
    recipe = merge_file(chosen.recipe, chosen.out)
    return f"{_spelt(recipe.method, recipe.options)}\nwritten to {chosen.out}"


def _methods(chosen: argparse.Namespace) -> str:
    described = [describe_method(method) for method in METHODS.values()]
    if chosen.json:
        return json.dumps(described, indent=2)
    blocks: list[str] = []
    for method in described:
        # Norms and thresholds are computed from parameters, where they are needed.
        given = [
            need for need in method["needs"] if need not in {Need.NORMS, Need.TRIM}
        ]
        needs = " and ".join(given) or "nothing but the experts"
        lines = [f"{method['name']}  ({method['title']}; needs {needs})"]
        lines += [
            f"    {option} = {json.dumps(facts['default'])}{_allowed(facts)}: "
            f"{facts['description']}"
            for option, facts in method["options"].items()
        ]
        blocks.append("\n".join([*lines, f"    {method['source']}"]))
    return "\n\n".join(blocks)


def _allowed(facts: dict[str, Any]) -> str:
    if "enum" in facts:
        return f" ({' | '.join(facts['enum'])})"
    words = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "exclusiveMaximum": "below",
    }
    bounds = [f"{word} {facts[key]:g}" for key, word in words.items() if key in facts]
    return f" ({', '.join(bounds)})" if bounds else ""


def _inspect(chosen: argparse.Namespace) -> str:
    checkpoint = find_checkpoint(chosen.model)
    parameters = checkpoint.read()
    types: dict[str, int] = {}
    for tensor in parameters.values():
        name = str(tensor.dtype).removeprefix("torch.")
        types[name] = types.get(name, 0) + tensor.numel()
    size = sum(file.stat().st_size for file in checkpoint.files)
    lines = [
        f"{len(parameters)} tensors, {sum(types.values()):,} numbers "
        f"({', '.join(f'{count:,} {name}' for name, count in sorted(types.items()))}), "
        f"{size:,} bytes in {len(checkpoint.files)} "
        f"{'file' if len(checkpoint.files) == 1 else 'files'}"
    ]
    report = checkpoint.directory / REPORT
    if checkpoint.is_directory and report.is_file():
        lines += _origin(report)
    lines += [
        f"{name}  {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in sorted(parameters.items())
    ]
    return "\n".join(lines)


def _origin(report: Path) -> list[str]:
    try:
        made = json.loads(report.read_text(encoding="utf-8"))
        recipe = made["recipe"]
        lines = [f"merged by {_spelt(recipe['method'], recipe['options'])}"]
        for name, expert in made["experts"].items():
            lines.append(f"    expert {name}: {expert['path']}")
        if made["pretrained"]:
            lines.append(f"    pretrained: {made['pretrained']['path']}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{report} is not the report of a merge.") from None
    return lines


def _spelt(method: str, options: Mapping[str, Option]) -> str:
    return " ".join([method, *(f"{name}={value}" for name, value in options.items())])


if __name__ == "__main__":
    sys.exit(main())
