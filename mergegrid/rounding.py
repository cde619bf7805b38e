"""Rounding: whether 16-bit types have eaten what experts learned.

bfloat16 numbers are 0.4 to 0.8 % apart. A fine-tuned parameter that moved by less is
stored as it was, so that most of a task vector may be zero, or, beside a pretrained
model in float32, be nothing but rounding.
"""

import logging
from collections.abc import Iterable, Sequence

from mergegrid.cohort import Cohort
from mergegrid.sources import Source
from mergegrid.variant import Variant

LOGGER = logging.getLogger("mergegrid")

MUCH = 0.5
"""The fraction of zeros in a task vector above which there is a warning."""

TENSORS_LOOKED_AT = 16
"""How many parameters are looked at, spread over the model."""

ENTRIES_LOOKED_AT = 1 << 14
"""How many entries of each, from its middle."""


def fraction_eaten(
    expert: Source, pretrained: Source, parameters: Sequence[str]
) -> float:
    """Estimate which part of a task vector rounding has set to zero.

    Args:
        expert: an expert.
        pretrained: what it was fine-tuned from.
        parameters: those that are merged.

    Returns:
        The fraction of entries that the expert's type cannot tell from the pretrained
        ones, among parameters that have changed at all, in a sample; 0 for experts in
        wider types.
    """
    narrow = [name for name in parameters if expert.infos[name].dtype.itemsize == 2]
    step = max(1, -(-len(narrow) // TENSORS_LOOKED_AT))
    zeros = entries = 0
    for name in narrow[::step]:
        info = expert.infos[name]
        both = min(info.entries, pretrained.infos[name].entries)
        start = max(0, (both - ENTRIES_LOOKED_AT) // 2)
        stop = min(start + ENTRIES_LOOKED_AT, both)
        own = expert.read(name, start, stop)
        equal = own == pretrained.read(name, start, stop).to(own)
        if not bool(equal.all()):
            zeros += int(equal.sum())
            entries += stop - start
    return zeros / entries if entries else 0.0


def warn_of_rounding(cohort: Cohort, variants: Iterable[Variant]) -> None:
    """Log a warning for every expert whose task vector was mostly lost in rounding.

    Args:
        cohort: the experts.
        variants: the merges; those that read the pretrained model merge task vectors.
    """
    merging = [variant.members for variant in variants if variant.reads_pretrained]
    members = set[int]().union(*merging)
    for member, (name, source) in enumerate(cohort.experts.items()):
        if member not in members or cohort.pretrained is None:
            continue
        fraction = fraction_eaten(source, cohort.pretrained, cohort.parameters)
        if fraction > MUCH:
            types = {source.infos[each].dtype for each in cohort.parameters}
            narrow = sorted(str(t) for t in types if t.itemsize == 2)
            LOGGER.warning(
                "The expert %r is stored in %s, which has rounded about %.0f %% of its "
                "task vector away. Merge float32 checkpoints, if there are any.",
                name,
                " and ".join(t.removeprefix("torch.") for t in narrow),
                100 * fraction,
            )
