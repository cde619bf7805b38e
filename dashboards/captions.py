"""What is said about each section of the report, and in the app's pages."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

TEXTS: Mapping[str, Mapping[str, str]] = tomllib.loads(
    Path(__file__).with_name("captions.toml").read_text(encoding="utf-8")
)
"""Section or page to its heading, its lead and its captions; in HTML."""
