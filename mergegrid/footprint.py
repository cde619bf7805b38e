"""Footprint: what a merge of stored models will read and hold, from headers alone."""

from collections.abc import Iterable, Mapping

from mergegrid.cohort import BYTES_AHEAD, LARGEST_PIECES_AHEAD
from mergegrid.engine import merge_flops
from mergegrid.layout import Layout
from mergegrid.measured import ARGUMENTS, Measured, is_covered
from mergegrid.methods.method import Recipe
from mergegrid.methods.needs import Need
from mergegrid.parameters import Role
from mergegrid.running_statistics import RunningVariance, mean_beside
from mergegrid.sources import Source
from mergegrid.surveying import asks_for_norms
from mergegrid.variant import Variant

COPIES = 3
"""Copies of what they are handed that methods take which see a tensor as a whole, but
do not say what they take: draws, and what is left of task vectors."""

BLOCKS = 48_000_000
"""Bytes of the blocks that are merged at a time, and wait to be written, and of memory
that is kept for the next ones."""


SLICES = 40_000_000
"""Bytes of some rows in float64, and of what linear algebra takes for itself, where a
method sees a tensor as a whole."""


def count_passes(variant: Variant, *, is_uniform: bool = True) -> int:
    """Count how often parameters are read to merge them.

    Args:
        variant: the merge.
        is_uniform: whether it is of all parameters; otherwise nothing is asked about
            the model as a whole.

    Returns:
        The passes over the parameters, the last one included.
    """
    method, options = variant.method, variant.options
    if not is_uniform:
        return 1
    passes = 1 + asks_for_norms(variant)
    if method.trims(options) and options.get("scope") != "tensor":
        passes += 2
    passes += sum(
        survey.is_asked(options) and not survey.is_per_tensor(options)
        for survey in method.surveys.values()
    )
    return passes + (2 if options.get("match_norm") else 0)


def bytes_to_read(
    experts: Iterable[Source],
    reference: Source,
    measured: Measured,
    layout: Layout,
    variants: Mapping[str, Variant],
    *,
    running_variance: RunningVariance = "average",
) -> int:
    """Count the bytes that a merge reads, apart from headers.

    Args:
        experts: the experts.
        reference: the pretrained model, or else the first expert.
        measured: the statistics.
        layout: of all models.
        variants: parameter to the merge of it.
        running_variance: see `mergegrid.running_statistics`; totals take the means too.

    Returns:
        Bytes, those that are read several times counted as often.
    """
    sources = list(experts)
    is_uniform = len({id(variant.options) for variant in variants.values()}) == 1
    total = 0
    for name, role in layout.roles.items():
        info = reference.infos[name]
        if role in {Role.COPIED, Role.COUNTER}:
            each = len(sources) + 1 if role is Role.COPIED else 0
            total += info.size * (1 + each)
            continue
        entries = layout.entries(name)
        per_entry = sum(source.infos[name].dtype.itemsize for source in sources)
        total += (info.entries - entries) * info.dtype.itemsize
        if role is Role.AVERAGED:
            total += entries * per_entry
            mean = mean_beside(name, sources) if running_variance == "total" else None
            if mean is not None:
                total += sum(source.infos[mean].size for source in sources)
            continue
        variant = variants[name]
        if variant.reads_pretrained:
            per_entry += info.dtype.itemsize
        once = entries * per_entry + _statistic_bytes(measured, layout, variant, name)
        total += once * count_passes(variant, is_uniform=is_uniform)
    return total


def peak_memory(
    sources: Iterable[Source],
    measured: Measured,
    layout: Layout,
    variants: Mapping[str, Variant],
) -> int:
    """Tell about how much memory a merge takes, apart from the program itself.

    Pieces that are read and not given up are within a budget. Where a method sees a
    tensor as a whole, it is put together from them; then they are given up, and the
    method takes memory of its own.

    Args:
        sources: the experts, and the pretrained model.
        measured: the statistics.
        layout: of all models.
        variants: parameter to the merge of it.

    Returns:
        Bytes.
    """
    models = list(sources)
    sizes: dict[str, int] = {}
    statistics: dict[str, int] = {}
    for name, variant in variants.items():
        per_entry = sum(source.infos[name].dtype.itemsize for source in models)
        sizes[name] = layout.entries(name) * per_entry
        statistics[name] = _statistic_bytes(measured, layout, variant, name)
    largest, every = max(sizes.values(), default=0), sum(sizes.values())
    budget = max(BYTES_AHEAD, int(largest * LARGEST_PIECES_AHEAD))
    # Statistics are read along with what the budget is for.
    further = sum(statistics.values()) / max(every, 1)
    pieces = min(budget, every) * (1 + further)
    most = pieces
    for name, variant in variants.items():
        most = max(most, pieces + _working(layout, variant, name, statistics[name]))
    return int(most) + BLOCKS


def _working(layout: Layout, variant: Variant, name: str, statistics: int) -> int:
    """Count what is held of one parameter besides what was read."""
    method, shape = variant.method, layout.shapes[name]
    experts = len(variant.members)
    entries = layout.entries(name)
    if method.mark is not None:
        return experts * entries  # a byte for each
    if not method.is_whole_tensor(variant.options) or not is_covered(method, shape):
        return 0
    read = 4 * experts * entries + statistics
    own = COPIES * read if method.memory is None else method.memory(shape, experts)
    # What was read is given up when it has been put together.
    return max(read, own) + SLICES


def total_flops(
    layout: Layout, measured: Measured, recipes: Mapping[str, Recipe], experts: int
) -> tuple[int, float]:
    """Count the operations of a merge.

    Args:
        layout: of all models.
        measured: the statistics.
        recipes: parameter to its recipe.
        experts: how many are merged.

    Returns:
        See `mergegrid.engine.merge_flops`.
    """
    of_recipes: dict[int, tuple[Recipe, dict[str, tuple[int, ...]]]] = {}
    for name, recipe in recipes.items():
        shapes = of_recipes.setdefault(id(recipe), (recipe, {}))[1]
        shapes[name] = layout.shapes[name]
    members = range(experts)
    exact, paper = 0, 0.0
    for recipe, shapes in of_recipes.values():
        linear = [name for name in shapes if measured.has(Need.GRAM, name, members)]
        counted = merge_flops(shapes, linear, recipe, experts)
        exact, paper = exact + counted[0], paper + counted[1]
    return exact, paper


def _statistic_bytes(
    measured: Measured, layout: Layout, variant: Variant, name: str
) -> int:
    method, options = variant.method, variant.options
    if not is_covered(method, layout.shapes[name]):
        return 0
    if measured.lacks(method, options, name, variant.members):
        return 0
    needs = method.needs_of(options)
    return sum(
        source.infos[names[name]].size
        for need in ARGUMENTS.values()
        if need in needs
        for source, names in zip(
            measured.sources[need], measured.names[need], strict=True
        )
        if source is not None and name in names
    )
