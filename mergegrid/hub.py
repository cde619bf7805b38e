"""Models by their name on the Hugging Face Hub, where they were downloaded before.

Nothing is downloaded: a name is looked up in the cache on this machine.
"""

import re
from pathlib import Path
from typing import NamedTuple

from mergegrid.errors import InputError

NAME = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?")
"""Owner and model, and a branch, a tag or a commit if need be."""


class Cached(NamedTuple):
    """A model in the cache."""

    directory: Path
    """Where it is."""

    revision: str
    """Its commit."""


def is_hub_name(text: str) -> bool:
    """Tell whether something could be the name of a model.

    Args:
        text: what was written, which is no path to something that exists.

    Returns:
        Whether it could.
    """
    return NAME.fullmatch(text) is not None


def find_in_cache(text: str) -> Cached:
    """Look a model up in the local cache.

    Args:
        text: `OWNER/NAME`, or `OWNER/NAME@REVISION`.

    Returns:
        Where it is.

    Raises:
        InputError: if it is not there, or `huggingface_hub` is not installed.
    """
    match = NAME.fullmatch(text)
    assert match is not None, "it is a name"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise InputError(
            f"There is no model at {text}. To look it up in the cache of Hugging Face "
            f"on this machine: pip install huggingface_hub."
        ) from None
    try:
        found = snapshot_download(
            match["name"], revision=match["revision"], local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError):
        raise InputError(
            f"There is no model at {text}, and none of this name in the cache of "
            f"Hugging Face on this machine."
        ) from None
    directory = Path(found)
    return Cached(directory, directory.name)
