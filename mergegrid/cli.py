"""The library's command line: merge, compress, restore, methods and inspect."""

import argparse
import json
import logging
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mergegrid.checkpoints import find_checkpoint
from mergegrid.compressed_form import read_description
from mergegrid.compressing import compress_stored
from mergegrid.compression_plan import most_written
from mergegrid.compression_text import compression_lines, description_lines
from mergegrid.describe import describe_method, method_lines, method_table
from mergegrid.errors import InputError, MergegridError
from mergegrid.inputs import Inputs, open_inputs
from mergegrid.inspecting import difference_lines, model_lines
from mergegrid.merge_file import read_merge_file
from mergegrid.merging import merge_stored
from mergegrid.methods import METHODS, get_method
from mergegrid.preflight import Preflight, preflight
from mergegrid.preflight_text import preflight_lines, recipe_line, short_line
from mergegrid.progress import CLEAR_LINE, ProgressLine
from mergegrid.restoring import restore_stored

LOGGER = logging.getLogger("mergegrid")

INTERRUPTED = 130
"""The exit status of a program that Ctrl-C has ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows `mergegrid`; None for the process's own.

    Returns:
        Exit status: 0, or 2 after an error that the user can mend.
    """
    chosen = _parser().parse_args(arguments)
    try:
        with _warnings_shown(), _termination_as_interrupt():
            text = chosen.run(chosen)
    except MergegridError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was written\n")
        return INTERRUPTED
    sys.stdout.write(f"{text}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mergegrid", description="Merge models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    merging = commands.add_parser(
        "merge", help="merge models as a recipe file, or one of mergekit's, says"
    )
    _take_recipe(merging)
    merging.set_defaults(run=_merge)

    compressing = commands.add_parser(
        "compress", help="put experts into one task vector and a mask for each"
    )
    _take_recipe(compressing)
    compressing.add_argument(
        "--with-pretrained",
        action="store_true",
        help="store the pretrained model in it, instead of where it is",
    )
    compressing.set_defaults(run=_compress)

    restoring = commands.add_parser(
        "restore", help="restore an expert's model from what compress has written"
    )
    restoring.add_argument("directory", type=Path, metavar="DIR")
    restoring.add_argument("task", metavar="EXPERT", nargs="?")
    restoring.add_argument("out", type=Path, metavar="OUT_DIR", nargs="?")
    restoring.add_argument(
        "--pretrained", metavar="MODEL", help="where the pretrained model is now"
    )
    _allow_force(restoring)
    restoring.add_argument(
        "--list", action="store_true", help="say what there is, and restore nothing"
    )
    restoring.set_defaults(run=_restore)

    listing = commands.add_parser("methods", help="list the methods and their options")
    listing.add_argument("names", metavar="NAME", nargs="*", help="these alone")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(run=_methods)

    inspecting = commands.add_parser(
        "inspect", help="say what is in a model, or in what two models differ"
    )
    inspecting.add_argument("model", metavar="DIR")
    inspecting.add_argument("other", nargs="?", metavar="OTHER_DIR")
    inspecting.set_defaults(run=_inspect)
    return parser


def _take_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", nargs="?")
    _allow_force(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be done and what stands in its way; write nothing",
    )


def _allow_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="replace OUT_DIR, if it is there"
    )


def _merge(chosen: argparse.Namespace) -> str:
    out: Path | None = chosen.out
    if out is None and not chosen.dry_run:
        raise InputError("Say where to: mergegrid merge RECIPE.yaml OUT_DIR.")
    inputs = open_inputs(read_merge_file(chosen.recipe))
    found = preflight(inputs, out)
    if chosen.dry_run or out is None:
        return _preflight_text(inputs, found)
    with _followed(found) as progress:
        merge_stored(inputs, out, force=chosen.force, progress=progress)
    return f"{recipe_line(inputs)}\nwritten to {out}"


def _compress(chosen: argparse.Namespace) -> str:
    out: Path | None = chosen.out
    if out is None and not chosen.dry_run:
        raise InputError("Say where to: mergegrid compress RECIPE.yaml OUT_DIR.")
    inputs = open_inputs(read_merge_file(chosen.recipe))
    written = most_written(inputs, with_pretrained=chosen.with_pretrained)
    found = preflight(inputs, out, written)
    if chosen.dry_run or out is None:
        return _preflight_text(inputs, found)
    with _followed(found) as progress:
        compressed = compress_stored(
            inputs,
            out,
            with_pretrained=chosen.with_pretrained,
            force=chosen.force,
            progress=progress,
        )
    lines = [recipe_line(inputs), *compression_lines(compressed)]
    return "\n".join([*lines, f"written to {out}"])


def _restore(chosen: argparse.Namespace) -> str:
    directory: Path = chosen.directory
    if chosen.list:
        return "\n".join(description_lines(read_description(directory)))
    if chosen.task is None or chosen.out is None:
        raise InputError("Say what and where to: mergegrid restore DIR EXPERT OUT_DIR.")
    progress = ProgressLine(sys.stderr) if sys.stderr.isatty() else None
    try:
        restore_stored(
            directory,
            chosen.task,
            chosen.out,
            pretrained=chosen.pretrained,
            force=chosen.force,
            progress=progress,
        )
    finally:
        if progress is not None:
            progress.finish()
    return f"{chosen.task} restored to {chosen.out}"


def _preflight_text(inputs: Inputs, found: Preflight) -> str:
    text = "\n".join(preflight_lines(inputs, found))
    if found.error is None:
        return text
    sys.stdout.write(f"{text}\n")
    raise found.error


@contextmanager
def _followed(found: Preflight) -> Generator[ProgressLine | None]:
    if found.error is not None:
        raise found.error
    progress = None
    if sys.stderr.isatty():
        _warn(found.notes)
        sys.stderr.write(f"{short_line(found)}\n")
        progress = ProgressLine(sys.stderr)
    try:
        yield progress
    finally:
        if progress is not None:
            progress.finish()
    if progress is None:  # what fails says nothing but why
        _warn(found.notes)


def _warn(notes: Sequence[str]) -> None:
    for note in notes:
        LOGGER.warning("%s", note)


def _methods(chosen: argparse.Namespace) -> str:
    methods = [*map(get_method, chosen.names)] or [*METHODS.values()]
    described = [describe_method(method) for method in methods]
    if chosen.json:
        return json.dumps(described, indent=2)
    blocks = [method_lines(method) for method in described]
    if not chosen.names:
        blocks.insert(0, method_table(described))
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _inspect(chosen: argparse.Namespace) -> str:
    model = find_checkpoint(chosen.model)
    if chosen.other is None:
        return "\n".join(model_lines(model))
    return "\n".join(difference_lines(model, find_checkpoint(chosen.other)))


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        clear = CLEAR_LINE if sys.stderr.isatty() else ""
        sys.stderr.write(f"{clear}warning: {record.getMessage()}\n")


@contextmanager
def _warnings_shown() -> Generator[None]:
    handler = _Warnings(logging.WARNING)
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)


@contextmanager
def _termination_as_interrupt() -> Generator[None]:
    # A scheduler that stops a job should find nothing half-written either.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
