"""Flow that merges stored models as one recipe file says, on a worker."""

from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.schedule import Outcome
from flows.stage import flow_of, refused, stoppable
from flows.story import SECONDS_BETWEEN_UPDATES, Bar, Pace
from mergegrid.errors import MergegridError
from mergegrid.inputs import open_inputs
from mergegrid.merge_file import read_merge_file
from mergegrid.merging import merge_stored
from mergegrid.preflight import preflight
from mergegrid.preflight_text import preflight_lines, recipe_line


@flow_of("merge", run_name="merge {recipe}")
def merge(recipe: str, out: str, force: bool = False) -> Outcome | None:  # noqa: FBT001, FBT002
    """Merge models as a recipe says, into a directory that loads like they do.

    Args:
        recipe: A recipe file, ours or one of mergekit's, as a path on the worker.
        out: The directory to make, as a path on the worker.
        force: Whether to replace a directory that is there.

    Returns:
        How it was refused, if it was.
    """
    try:
        with stoppable():
            _merge(Path(recipe), Path(out), force=force)
    except MergegridError as error:
        return refused(error)
    return None


def _merge(recipe: Path, out: Path, *, force: bool) -> None:
    logger = get_run_logger()
    inputs = open_inputs(read_merge_file(recipe))
    found = preflight(inputs, out)
    for note in found.notes:
        logger.warning("%s", note)
    if found.error is not None:
        raise found.error
    bar = Bar("merge-progress")
    bar.show(0.0, recipe_line(inputs))
    pace = Pace(SECONDS_BETWEEN_UPDATES)

    def advance(done: int, of: int) -> None:
        if pace.due():
            bar.show(done / of, recipe_line(inputs))

    merge_stored(inputs, out, force=force, progress=advance)
    bar.show(1.0, recipe_line(inputs))
    lines = [f"    {line}" for line in preflight_lines(inputs, found)]
    create_markdown_artifact(
        "\n".join([f"Written to `{out}`.", "", *lines]), key="merged-model"
    )
    logger.info("%s, written to %s", recipe_line(inputs), out)
