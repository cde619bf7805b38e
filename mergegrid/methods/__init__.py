"""Every merge method, by name.

To add one, write its module, end it with a `METHOD`, and add its line here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from mergegrid.errors import UnknownNameError
from mergegrid.methods import (
    average,
    dare,
    fisher,
    mats,
    mlerp,
    regmean,
    slerp,
    task_arithmetic,
    ties,
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
            fisher,
            regmean,
            mats,
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
