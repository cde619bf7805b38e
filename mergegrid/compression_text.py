"""What compressing has brought, and what is in a directory of it, in words."""

from collections.abc import Iterator

from mergegrid.bits import BITS
from mergegrid.compressed_form import Description
from mergegrid.compressing import Compression
from mergegrid.merge_report import spelt
from mergegrid.sizes import show_size
from mergegrid.stored_parts import Part

NAMES = {
    "pretrained": "pretrained model",
    "task_vector": "merged task vector",
    "masks": "masks",
    "numbers": "numbers left",
    "factors": "factors",
    "experts": "experts",
}
"""Parts, and what to call them."""

WIDTHS = (20, 12, 12)
"""Of the columns."""


def compression_lines(compressed: Compression) -> Iterator[str]:
    """Say what compressed experts take, beside what the experts do.

    Args:
        compressed: from `compress_stored`.

    Yields:
        The lines of a table, and one that gives the ratio.
    """
    yield _columns("", "on disk", "by the paper")
    for part in compressed.parts:
        yield _line(NAMES[part.part], part)
    total = Part(
        "total",
        sum(part.bits for part in compressed.parts),
        sum(part.bytes for part in compressed.parts),
    )
    yield _line("together", total)
    experts = compressed.experts
    yield _line("the experts", experts)
    on_disk = 100 * total.bytes / max(experts.bytes, 1)
    by_paper = 100 * total.bits / max(experts.bits, 1)
    yield _columns("of these", f"{on_disk:.3g} %", f"{by_paper:.3g} %")


def description_lines(description: Description) -> Iterator[str]:
    """Say what is in a directory of compressed experts.

    Args:
        description: from `read_description`.

    Yields:
        The recipe, the pretrained model, and the experts that can be restored.
    """
    recipe = description.recipe
    yield f"compressed by {spelt(recipe.method, recipe.options)}"
    known = description.pretrained
    where = "in the directory" if known.is_stored else f"to be found at {known.path}"
    yield f"    pretrained: {where}"
    for task in description.tasks:
        yield f"    expert {task}"


def _line(label: str, part: Part) -> str:
    # The paper does not count where pruned numbers belong.
    by_paper = show_size(part.bits / BITS) if part.bits else "-"
    return _columns(label, show_size(part.bytes), by_paper)


def _columns(label: str, *cells: str) -> str:
    first, *others = WIDTHS
    columns = [f"{cell:>{width}}" for cell, width in zip(cells, others, strict=True)]
    return "  ".join([f"{label:<{first}}", *columns])
