"""Every model family, by name.

To add one, write its module, end it with a `FAMILY`, and add its line here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from mergegrid.errors import UnknownNameError
from mergegrid.models import open_clip
from mergegrid.models.family import Family

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.name: family for family in (open_clip.FAMILY,)}
)


def get_family(name: str) -> Family:
    """Look a family up.

    Args:
        name: its name.

    Returns:
        The family.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    if name not in FAMILIES:
        raise UnknownNameError("model family", name, FAMILIES)
    return FAMILIES[name]
