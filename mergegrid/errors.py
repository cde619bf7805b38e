"""The errors that this project adds to Python's own.

Each of them is something a user can mend: its message names the thing, the value and
the way out, and command lines show it as one line with exit status 2. Everything else
is a bug and keeps its traceback.

* MergegridError
  - InputError (also a ValueError): an experiment, recipe or argument is wrong
    + UnknownNameError: there is no such method, option, suite, ...
  - LayoutError (also a ValueError): models that cannot be merged with one another
  - NonFiniteError (also a ValueError): NaN or infinity in a parameter or statistic
  - MissingPrerequisiteError: a step needs something that no earlier step has made
  - StorageError: the root cannot be reached, read or written
    + DamagedArtifactError: a stored artifact is not what its manifest says
  - ResultsError: the results database or ledger cannot be used
"""

import difflib
from collections.abc import Iterable


class MergegridError(Exception):
    """Something a user can mend; the message says how."""


class InputError(MergegridError, ValueError):
    """An experiment, recipe or argument is wrong."""


class UnknownNameError(InputError):
    """There is no such thing; the message says what was probably meant, and what is.

    Args:
        thing: what was looked up, such as "method" or "option of ties".
        name: the name that is not known.
        known: the names that are.
    """

    def __init__(self, thing: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        there_are = ", ".join(names) if names else "none"
        super().__init__(f"There is no {thing} {name!r}.{hint} Known: {there_are}.")


class LayoutError(MergegridError, ValueError):
    """Models that cannot be merged with one another."""


class NonFiniteError(MergegridError, ValueError):
    """NaN or infinity in a parameter or statistic."""


class MissingPrerequisiteError(MergegridError):
    """A step needs something that no earlier step has made."""


class StorageError(MergegridError):
    """The root cannot be reached, read or written."""


class DamagedArtifactError(StorageError):
    """A stored artifact is not what its manifest says; it has been set aside."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"The artifact {key} is damaged: {reason}. It was set aside.")
        self.key = key
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.key, self.reason)


class ResultsError(MergegridError):
    """The results database or ledger cannot be used."""
