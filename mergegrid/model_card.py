"""Model cards: the README.md of what was merged, for people and for the Hub."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mergegrid.companions import CARD
from mergegrid.hub import is_hub_name
from mergegrid.merge_report import Report
from mergegrid.model_config import CONFIG

VERSIONS = ("mergegrid", "torch")
"""The packages whose versions the card gives; the report has all."""


def write_card(report: Report, directory: Path) -> None:
    """Write the card of a merged model.

    Args:
        report: what it was made from.
        directory: where the model is.
    """
    method = report["recipe"]["method"]
    about = [f"Merged by mergegrid with `{method}`."]
    if report.get("task") is not None:
        about.append(f"This is the model for the task of expert `{report['task']}`.")
    title = f"{_named(report['experts'])}, merged"
    _write(report, _library(directory), title, about, directory)


def write_compressed_card(
    report: Report, tasks: Sequence[str], directory: Path
) -> None:
    """Write the card of compressed experts.

    Args:
        report: what they were made from.
        tasks: the experts that can be restored.
        directory: where they are.
    """
    method = report["recipe"]["method"]
    about = [
        f"Compressed by mergegrid with `{method}`. No weights to load, but what to "
        f"restore each model from:",
        "",
        "```",
        *(f"mergegrid restore . {shlex.quote(task)} OUT_DIR" for task in tasks),
        "```",
    ]
    _write(report, "mergegrid", f"{_named(tasks)}, compressed", about, directory)


def _write(
    report: Report, library: str, title: str, about: Sequence[str], directory: Path
) -> None:
    text = "\n".join(_card(report, library, title, about))
    (directory / CARD).write_text(f"{text}\n", encoding="utf-8")


def _card(
    report: Report, library: str, title: str, about: Sequence[str]
) -> Iterator[str]:
    yield "---"
    yield yaml.safe_dump(_front_matter(report, library), sort_keys=False).rstrip()
    yield "---"
    yield ""
    yield f"# {title}"
    yield ""
    yield from about
    yield ""
    yield from _options(report)
    yield "## Sources"
    yield ""
    yield from _sources(report)
    yield ""
    yield "## Versions"
    yield ""
    yield from _versions(report)
    yield ""
    yield "## Recipe"
    yield ""
    yield from _fenced(report["file"])


def _front_matter(report: Report, library: str) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": library}
    models = [report["pretrained"], *report["experts"].values()]
    names = [model["path"] for model in models if model and "revision" in model]
    if names:
        bare = [name.partition("@")[0] for name in names if is_hub_name(name)]
        front["base_model"] = list(dict.fromkeys(bare))
        front["base_model_relation"] = "merge"
    return front | {"tags": ["merge", "mergegrid"]}


def _library(directory: Path) -> str:
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "safetensors"
    return "transformers" if "model_type" in config else "safetensors"


def _named(experts: Iterable[str]) -> str:
    *names, last = experts
    return f"{', '.join(names)} and {last}" if names else last


def _options(report: Report) -> Iterator[str]:
    options = report["recipe"]["options"]
    if options:
        yield "| option | value |"
        yield "|---|---|"
        for name, value in options.items():
            yield f"| `{name}` | {_cell(json.dumps(value))} |"
        yield f"| `seed` | {report['seed']} |"
        yield ""


def _sources(report: Report) -> Iterator[str]:
    yield "| what | where | file | digest |"
    yield "|---|---|---|---|"
    for name, model in report["experts"].items():
        yield from _source(f"expert {name}", model)
    if report["pretrained"]:
        yield from _source("pretrained", report["pretrained"])
    for need, given in report["statistics"].items():
        for owner, found in given.items():
            yield from _source(f"{need} of {owner}", found)


def _source(what: str, model: Mapping[str, Any]) -> Iterator[str]:
    where = model["path"]
    if "revision" in model:
        where += f" at {model['revision']}"
    for file, digest in model.get("sha256", {}).items():
        yield f"| {_cell(what)} | {_cell(where)} | {_cell(file)} | SHA-256 {digest} |"
    for file, tag in model.get("etag", {}).items():
        seen = f"ETag {tag['etag']}, {tag['size']} bytes"
        yield f"| {_cell(what)} | {_cell(where)} | {_cell(file)} | {seen} |"


def _versions(report: Report) -> Iterator[str]:
    found = report["provenance"]
    for package in VERSIONS:
        if package in found["versions"]:
            yield f"* {package} {found['versions'][package]}"
    yield f"* Python {found['python']}"
    if found["git_commit"]:
        dirty = ", with changes" if found["git_dirty"] else ""
        yield f"* commit {found['git_commit']}{dirty}"


def _fenced(text: str) -> Iterator[str]:
    # A fence is longer than any in the text.
    longest = max(map(len, re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    yield f"{fence}yaml"
    yield text.rstrip("\n")
    yield fence


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
