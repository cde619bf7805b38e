"""Registries whose entries are imported when they are asked for.

Families and suites need libraries that take seconds to import; whoever uses one of them
waits for its own alone.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Entries by name, each imported on first access.

    Args:
        places: for each name where its entry is, as `package.module:attribute`.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> Entry:
        """Import an entry."""
        module, _, attribute = self._places[name].partition(":")
        return getattr(import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        """Go through the names; nothing is imported."""
        return iter(self._places)

    def __len__(self) -> int:
        """Count the names."""
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is an entry of that name; nothing is imported."""
        return name in self._places
