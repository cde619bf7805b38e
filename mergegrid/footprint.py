"""Footprint: what a merge of stored models will read and hold, from headers alone."""

from collections.abc import Iterable, Mapping

from mergegrid.cohort import BYTES_AHEAD, LARGEST_PIECES_AHEAD
from mergegrid.engine import merge_flops
from mergegrid.layout import Layout
from mergegrid.measured import ARGUMENTS, Measured, is_covered
from mergegrid.methods.method import Need, Recipe
from mergegrid.parameters import Role
from mergegrid.sources import Source
from mergegrid.surveying import asks_for_norms
from mergegrid.variant import Variant

WORKING_COPIES = 10
"""Float32 copies of an expert's parameter that a method holds at a time if a tensor is
more to it than its entries. Measured: 6 to 17, most with those that decompose."""

BLOCKS = 32_000_000
"""Bytes of the blocks that are merged at a time, and wait to be written."""


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
) -> int:
    """Count the bytes that a merge reads, apart from headers.

    Args:
        experts: the experts.
        reference: the pretrained model, or else the first expert.
        measured: the statistics.
        layout: of all models.
        variants: parameter to the merge of it.

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
            continue
        variant = variants[name]
        if variant.reads_pretrained:
            per_entry += info.dtype.itemsize
        once = entries * per_entry + _statistic_bytes(measured, layout, variant, name)
        total += once * count_passes(variant, is_uniform=is_uniform)
    return total


def peak_memory(
    sources: Iterable[Source], layout: Layout, variants: Mapping[str, Variant]
) -> int:
    """Tell about how much memory a merge takes, apart from the program itself.

    Args:
        sources: the experts, and the pretrained model.
        layout: of all models.
        variants: parameter to the merge of it.

    Returns:
        Bytes.
    """
    models = list(sources)
    sizes = {
        name: layout.entries(name)
        * sum(source.infos[name].dtype.itemsize for source in models)
        for name in variants
    }
    largest = max(sizes.values(), default=0)
    pieces = min(
        max(BYTES_AHEAD, int(largest * LARGEST_PIECES_AHEAD)), sum(sizes.values())
    )
    if any(variant.is_whole_tensor for variant in variants.values()):
        pieces += largest  # the one in use, while the next one is read
    working = max(
        (
            4 * layout.entries(name) * WORKING_COPIES * len(variant.members)
            for name, variant in variants.items()
            if variant.method.is_whole_tensor(variant.options)
        ),
        default=0,
    )
    return pieces + working + BLOCKS


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
