"""Models by their name on the Hugging Face Hub.

A merge looks names up in the cache on this machine and downloads nothing; a grid
fetches the models that its experiment names.
"""

import re
from collections.abc import Sequence
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


def fetch_from_hub(text: str, files: Sequence[str]) -> Path:
    """Have a model in the local cache, downloading what is not there yet.

    Args:
        text: `OWNER/NAME`, or `OWNER/NAME@REVISION`.
        files: patterns of the files that are wanted.

    Returns:
        Where it is.

    Raises:
        InputError: if there is no such model, it cannot be reached, or
            `huggingface_hub` is not installed.
    """
    match = NAME.fullmatch(text)
    assert match is not None, "it is a name"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise InputError(
            f"To fetch {text} from the Hugging Face Hub: pip install huggingface_hub."
        ) from None
    try:
        found = snapshot_download(
            match["name"], revision=match["revision"], allow_patterns=list(files)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"Cannot fetch {text} from the Hugging Face Hub ({reason}). Download it "
            f"where there is a network and give its directory instead."
        ) from None
    return Path(found)
