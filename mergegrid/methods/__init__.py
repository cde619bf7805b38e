"""Every merge method, by name.

To add one, write its module, end it with a `METHOD`, and add its line here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from mergegrid.errors import UnknownNameError
from mergegrid.methods import (
    adamerging,
    adamerging_pp,
    average,
    breadcrumbs,
    consensus,
    dare,
    dare_ties,
    della,
    emr,
    fisher,
    hierarchical_supermerge,
    iso,
    iso_cts,
    knots,
    magnitude_masking,
    magnitude_pruning,
    mats,
    mlerp,
    model_stock,
    pcb,
    regmean,
    slerp,
    supermerge,
    tall_masks,
    task_arithmetic,
    ties,
    tsv_m,
    wudi,
)
from mergegrid.methods.method import Method

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        module.METHOD.name: module.METHOD
        for module in (
            average,
            slerp,
            mlerp,
            task_arithmetic,
            dare,
            ties,
            dare_ties,
            della,
            breadcrumbs,
            model_stock,
            pcb,
            consensus,
            tall_masks,
            magnitude_masking,
            magnitude_pruning,
            emr,
            tsv_m,
            iso,
            iso_cts,
            wudi,
            knots,
            fisher,
            regmean,
            mats,
            supermerge,
            hierarchical_supermerge,
            adamerging,
            adamerging_pp,
        )
    }
)
"""The registry, in the order in which tables list it."""


def get_method(name: str) -> Method:
    """Look a method up.

    Args:
        name: its name in the registry.

    Returns:
        The method.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    if name not in METHODS:
        raise UnknownNameError("merge method", name, METHODS)
    return METHODS[name]
