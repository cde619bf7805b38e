"""Every suite, by name.

To add one, write its module and add its class here; its fields are its options.
"""

from collections.abc import Mapping
from types import MappingProxyType

from mergegrid.suites.glyphs import Glyphs
from mergegrid.suites.suite import Suite

SUITES: Mapping[str, type[Suite]] = MappingProxyType({"glyphs": Glyphs})
