"""What is known before a merge, in words."""

from collections import Counter
from collections.abc import Iterator

from mergegrid.checkpoints import Checkpoint
from mergegrid.companions import find_companions
from mergegrid.inputs import Inputs
from mergegrid.layout import Layout
from mergegrid.merge_report import spelt
from mergegrid.methods.method import Recipe
from mergegrid.preflight import Costs, Preflight
from mergegrid.sizes import show_size

LABEL = 16
"""Width of the first column."""


def preflight_lines(inputs: Inputs, found: Preflight) -> Iterator[str]:
    """Say everything that is known before a merge.

    Args:
        inputs: everything that it reads.
        found: from `preflight`.

    Yields:
        Lines, each difference between models and other fault on one of its own.
    """
    yield _line("recipe", recipe_line(inputs))
    for label, checkpoint in inputs.models().items():
        yield _line(label, _stored(inputs, checkpoint))
    for need, given in inputs.statistics.items():
        for owner, checkpoint in given.items():
            yield _line(f"{need} {owner}", _stored(inputs, checkpoint))
    if found.layout is not None:
        yield _line("tensors", _tensors(found.layout))
    for text in found.vocabulary:
        yield _line("vocabulary", text)
    if found.others:
        names = ", ".join(found.others)
        yield _line("fallback", f"{len(found.others)} not covered: {names}")
    if found.costs is not None:
        yield from _cost_lines(found.costs)
    names = ", ".join(place.name for place in find_companions(inputs))
    yield _line("copied", names or "nothing")
    for note in found.notes:
        yield _line("warning", note)
    for fault in found.faults:
        yield _line("fault", fault)


def short_line(found: Preflight) -> str:
    """Say what a merge takes.

    Args:
        found: from `preflight`, without faults.

    Returns:
        One line.
    """
    assert found.costs is not None, "without faults, costs are known"
    costs = found.costs
    return (
        f"reads {show_size(costs.bytes_to_read)}, writes "
        f"{show_size(costs.bytes_to_write)} in {_files(costs.files)}, takes about "
        f"{show_size(costs.memory)} of memory and {costs.flops:.3g} FLOPs"
    )


def recipe_line(inputs: Inputs) -> str:
    """Spell out what is done.

    Args:
        inputs: everything that is read.

    Returns:
        One line.
    """
    made_by = inputs.file.made_by
    if isinstance(made_by, Recipe):
        return spelt(made_by.method, made_by.options)
    return f"mergekit's {made_by.file.method}, each tensor by a recipe of its own"


def _line(label: str, text: str) -> str:
    return f"{label.ljust(LABEL)}  {text}"


def _stored(inputs: Inputs, checkpoint: Checkpoint) -> str:
    infos = inputs.sources[checkpoint.text].infos.values()
    types = Counter(str(info.dtype).removeprefix("torch.") for info in infos)
    size = show_size(sum(info.size for info in infos))
    kinds = ", ".join(name for name, _ in types.most_common())
    return f"{checkpoint.text}: {size} {kinds} in {_files(len(checkpoint.files))}"


def _tensors(layout: Layout) -> str:
    roles = Counter(role.value for role in layout.roles.values())
    counts = ", ".join(f"{count} {role}" for role, count in roles.items())
    numbers = sum(info.entries for info in layout.infos.values())
    return f"{len(layout.infos)} ({counts}), {numbers:,} numbers"


def _cost_lines(costs: Costs) -> Iterator[str]:
    yield _line("reads", show_size(costs.bytes_to_read))
    written = show_size(costs.bytes_to_write)
    yield _line("writes", f"{written} in {_files(costs.files)}")
    yield _line("memory", f"about {show_size(costs.memory)} besides the program's own")
    paper = f"; {costs.paper_flops:.3g} by the paper" if costs.paper_flops else ""
    yield _line("FLOPs", f"{costs.flops:.3g}{paper}")


def _files(number: int) -> str:
    return f"{number} {'file' if number == 1 else 'files'}"
