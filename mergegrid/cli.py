"""The library's command line: `mergegrid merge`, `methods` and `inspect`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mergegrid.checkpoints import find_checkpoint
from mergegrid.describe import (
    describe_method,
    difference_lines,
    method_lines,
    model_lines,
    preflight_lines,
)
from mergegrid.errors import InputError, MergegridError
from mergegrid.inputs import open_inputs
from mergegrid.merge_file import read_merge_file
from mergegrid.merge_report import spelt
from mergegrid.merging import merge_stored
from mergegrid.methods import METHODS
from mergegrid.methods.method import Recipe
from mergegrid.preflight import preflight
from mergegrid.progress import ProgressLine


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
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was written\n")
        return 130
    sys.stdout.write(f"{text}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mergegrid", description="Merge models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    merging = commands.add_parser("merge", help="merge models as a recipe file says")
    merging.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    merging.add_argument("out", type=Path, metavar="OUT_DIR")
    merging.add_argument(
        "--force", action="store_true", help="replace OUT_DIR, if it is there"
    )
    merging.add_argument(
        "--dry-run", action="store_true", help="look at headers only; write nothing"
    )
    merging.set_defaults(run=_merge)

    listing = commands.add_parser("methods", help="list the methods and their options")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(run=_methods)

    inspecting = commands.add_parser(
        "inspect", help="say what is in a model, or in what two models differ"
    )
    inspecting.add_argument("model", metavar="DIR")
    inspecting.add_argument("other", nargs="?", metavar="OTHER_DIR")
    inspecting.set_defaults(run=_inspect)
    return parser


def _merge(chosen: argparse.Namespace) -> str:
    file = read_merge_file(chosen.recipe)
    inputs = open_inputs(file)
    found = preflight(inputs, chosen.out)
    if chosen.dry_run:
        lines = preflight_lines(found, is_long=True)
        if found.error is not None:
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            raise found.error
        return "\n".join(lines)
    if found.error is not None:
        raise found.error
    is_terminal = sys.stderr.isatty()
    if is_terminal:
        for line in preflight_lines(found, is_long=False):
            sys.stderr.write(f"{line}\n")
    progress = ProgressLine(sys.stderr) if is_terminal else None
    try:
        merge_stored(inputs, chosen.out, force=chosen.force, progress=progress)
    finally:
        if progress is not None:
            progress.finish()
    made_by = file.made_by
    said = "each tensor by its own recipe"
    if isinstance(made_by, Recipe):
        said = spelt(made_by.method, made_by.options)
    return f"{said}\nwritten to {chosen.out}"


def _methods(chosen: argparse.Namespace) -> str:
    described = [describe_method(method) for method in METHODS.values()]
    if chosen.json:
        return json.dumps(described, indent=2)
    return "\n\n".join("\n".join(method_lines(method)) for method in described)


def _inspect(chosen: argparse.Namespace) -> str:
    model = find_checkpoint(chosen.model)
    if chosen.other is None:
        return "\n".join(model_lines(model))
    other = find_checkpoint(chosen.other)
    if other.text == model.text:
        raise InputError("Give two models to compare; these are one and the same.")
    return "\n".join(difference_lines(model, other))


if __name__ == "__main__":
    sys.exit(main())
