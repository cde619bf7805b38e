"""What compressing will write, and whether it can: from a recipe and headers alone."""

from mergegrid.bits import BITS
from mergegrid.coding import NUMBER
from mergegrid.errors import InputError
from mergegrid.inputs import Inputs
from mergegrid.methods.method import Recipe
from mergegrid.methods.per_expert import each
from mergegrid.preflight import Written
from mergegrid.safetensors_output import plan_shards
from mergegrid.splits import get_splitter


def recipe_to_compress(inputs: Inputs) -> Recipe:
    """Find out whether what a recipe file asks for can be compressed.

    Args:
        inputs: everything that is read.

    Returns:
        The recipe.

    Raises:
        InputError: if it yields one model for all tasks.
    """
    recipe = inputs.file.made_by
    if not isinstance(recipe, Recipe):
        raise InputError(
            f"mergekit's {recipe.file.method} yields one model for all tasks, in which "
            f"there is nothing to compress: merge it."
        )
    get_splitter(recipe.method)
    return recipe


def most_written(inputs: Inputs, *, with_pretrained: bool) -> Written:
    """Bound what compressed experts take, from headers alone.

    Args:
        inputs: everything that is read.
        with_pretrained: whether the pretrained model is stored too.

    Returns:
        What they take if nothing can be coded in less than it is.

    Raises:
        InputError: if what the recipe file asks for cannot be compressed.
    """
    recipe = recipe_to_compress(inputs)
    infos = inputs.reference_source().infos.values()
    entries = sum(info.entries for info in infos if info.dtype.is_floating_point)
    tasks = len(inputs.file.tasks)
    if get_splitter(recipe.method).is_shared:
        vectors, files = 1.0, 1 + tasks
    else:
        densities = each("density", recipe.options["density"], len(inputs.experts))
        vectors, files = sum(densities), 2 * tasks
    size = int(entries * (vectors * NUMBER + tasks / BITS))
    if with_pretrained:
        size += sum(info.size for info in infos)
        files += len(
            plan_shards(inputs.reference_source().infos, inputs.file.most_bytes)
        )
    return Written(size, files)
