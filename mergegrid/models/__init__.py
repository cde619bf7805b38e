"""Every model family, by name.

To add one, write its module, end it with a `FAMILY`, and add its line here.
"""

from collections.abc import Mapping

from mergegrid.errors import UnknownNameError
from mergegrid.models.family import Family
from mergegrid.registry import Registry

FAMILIES: Mapping[str, Family] = Registry[Family](
    {
        "adapters": "mergegrid.models.adapters:FAMILY",
        "causal": "mergegrid.models.causal:FAMILY",
        "open_clip": "mergegrid.models.open_clip:FAMILY",
        "seq2seq": "mergegrid.models.seq2seq:FAMILY",
    }
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
