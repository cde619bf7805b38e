"""What a task file of lm-evaluation-harness says, and what of it has a counterpart.

A task says where its data are and how a document becomes a question. One of multiple
choice is scored by the likelihood of its choices, as `choice` is; what asks for
anything else is refused by name.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mergegrid.canonical import JSON

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "acc": "choice",
        "acc_norm": "choice_per_character",
        "acc_bytes": "choice_per_byte",
    }
)
"""The harness's metrics to ours that are equal to them."""

_DEFAULT = ("acc", "acc_norm")
"""The metrics of a task of multiple choice that names none."""

_ANSWERS = {
    "generate_until": "free text",
    "loglikelihood": "one continuation",
    "loglikelihood_rolling": "the likelihood of a whole text",
}
"""What tasks ask for that have no choices."""

_OF_ITS_OWN = {
    "custom_dataset": "makes its data by a program",
    "doc_to_audio": "needs sounds",
    "doc_to_image": "needs images",
    "filter_list": "filters answers before they are scored",
    "process_results": "scores answers by a program",
    "use_prompt": "takes its prompts from promptsource",
}
"""Keys of task files that no task of ours has a counterpart for."""

_NAMES = re.compile(r"dataset_|(group|tag|task|task_alias)$")
"""Keys that say what a task is called and where its data are."""

_LONGEST = 255
"""Characters of a path."""


@dataclass(frozen=True)
class Description:
    """What a task file says."""

    name: str
    """The task's name."""

    file: Path
    """Where it is written."""

    config: Mapping[str, Any] = field(hash=False)
    """Its keys and values, those of included files among them. Of functions, the path
    of their file with their name in place of its ending."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Its metrics that have a counterpart, in its order."""
        listed = self.config.get("metric_list")
        if listed is None:
            return _DEFAULT
        means = [each for each in listed if each.get("aggregation", "mean") == "mean"]
        return tuple(each["metric"] for each in means if each["metric"] in METRICS)

    @property
    def evaluated(self) -> str | None:
        """The split of the data set that the harness evaluates on."""
        return self.config.get("test_split") or self.config.get("validation_split")

    def identity(self) -> dict[str, JSON]:
        """Tell what decides the wording of its questions.

        Returns:
            What it says but for names and data, wherever it lies; the digests of the
            programs beside it; and the harness's version.
        """
        said = {k: v for k, v in self.config.items() if not _NAMES.match(k)}
        folders = {Path(text).parent for text in _functions(said)}
        return {
            "says": _without_places(said),
            "programs": {
                file.name: hashlib.sha256(file.read_bytes()).hexdigest()
                for folder in sorted(folders)
                for file in sorted(folder.glob("*.py"))
            },
            "harness": version("lm_eval"),
        }

    def unfit(self) -> str | None:
        """Say why it has no counterpart here, if it has none.

        Returns:
            What follows its name in a message; None if nothing is in the way.
        """
        said = self.config
        if "class" in said:
            return "is a program, and not a description"
        asks = said.get("output_type", "generate_until")
        if asks != "multiple_choice":
            return (
                f"asks for {_ANSWERS.get(asks, asks)} ({asks}); only tasks of "
                f"multiple_choice can be used"
            )
        for key, reason in _OF_ITS_OWN.items():
            if said.get(key) is not None:
                return f"{reason} ({key}), which has no counterpart here"
        if said.get("dataset_path") == "pandas":
            return "has pickled data (dataset_path: pandas), which are not loaded"
        for key in ("dataset_path", "doc_to_text", "doc_to_target", "doc_to_choice"):
            if said.get(key) is None:
                return f"has no {key}"
        if not self.metrics:
            return f"has none of the metrics {', '.join(METRICS)}, which can be used"
        if self.evaluated is None:
            return "has neither a test_split nor a validation_split"
        return None


def _functions(value: JSON) -> Iterator[str]:
    """Find the functions among the values of a task file."""
    match value:
        case Mapping():
            for inner in value.values():
                yield from _functions(inner)
        case list():
            for inner in value:
                yield from _functions(inner)
        case str() if _is_place(value) and Path(value).with_suffix(".py").is_file():
            yield value
        case _:
            pass


def _without_places(value: JSON) -> JSON:
    match value:
        case Mapping():
            return {str(key): _without_places(inner) for key, inner in value.items()}
        case list():
            return [_without_places(inner) for inner in value]
        case str() if _is_place(value):
            return Path(value).name
        case _:
            return value


def _is_place(text: str) -> bool:
    # Longer texts are prompts, which some systems refuse to look up.
    is_path = len(text) < _LONGEST and Path(text).is_absolute()
    return is_path and Path(text).parent.is_dir()
