"""Recipe files: one merge of stored models, written as YAML."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mergegrid.documents import Section
from mergegrid.errors import InputError, UnknownNameError
from mergegrid.layout import Vocabulary
from mergegrid.running_statistics import RunningVariance
from mergegrid.sizes import parse_size


class StatisticFiles(Section):
    """Where statistics are; norms and trim thresholds need no files."""

    fisher: dict[str, str] = Field(default_factory=dict)
    """Expert to its diagonal Fisher information, by name of the parameter."""

    gram: dict[str, str] = Field(default_factory=dict)
    """Expert to its Gram matrices of inputs, by name of the weight."""

    gradient: dict[str, str] = Field(default_factory=dict)
    """Expert to its Gram matrices of output gradients, by name of the weight."""

    signs: str | None = None
    """Signs for all experts, by name of the parameter."""

    coefficients: str | None = None
    """Learned coefficients: a number for each expert, by name of the parameter."""


class RecipeFile(Section):
    """What to merge, and how.

    Models and statistics are safetensors files or directories of them: paths, relative
    to the recipe file's directory; URLs such as `s3://bucket/prefix`; or, for models,
    names in the local cache of Hugging Face, `OWNER/NAME` or `OWNER/NAME@REVISION`.
    """

    method: str
    """The method's name."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Its options; those left out have their default."""

    experts: dict[str, str] = Field(min_length=1)
    """Name to model."""

    pretrained: str | None = None
    """What the experts were fine-tuned from, for methods that need it."""

    statistics: StatisticFiles = StatisticFiles()
    """What was measured on the experts, for methods that need it."""

    seed: int = 0
    """For methods that draw at random."""

    task: str | None = None
    """For methods that yield a model for each expert's task: the expert. Without it
    there is a directory with a model for each task, under the output directory."""

    dtype: Literal["float32"] = "float32"
    """The type that is merged in, whatever the models' types; there is one."""

    output_dtype: Literal["float32", "float16", "bfloat16", "float64"] | None = None
    """The type of the merged model's floating-point tensors; None for those of the
    pretrained model, or else of the first expert."""

    vocabulary: Vocabulary = "refuse"
    """What to do where models differ in their number of rows alone: `intersect` merges
    the rows that all have; the rest is the pretrained model's, or else the first
    expert's."""

    running_variance: RunningVariance = "average"
    """What becomes of running variances of normalization layers: `total` adds the
    variance of the experts' means."""

    max_shard_size: str | int = "5GB"
    """How large a file of the merged model may be."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where arithmetic happens."""

    @field_validator("max_shard_size")
    @classmethod
    def _is_size(cls, given: str | int) -> str | int:
        parse_size(given)
        return given

    @model_validator(mode="after")
    def _statistics_are_of_experts(self) -> "RecipeFile":
        files = self.statistics
        for need in (files.fisher, files.gram, files.gradient):
            for expert in need:
                if expert not in self.experts:
                    raise UnknownNameError("expert", expert, self.experts)
        if self.task is not None and self.task not in self.experts:
            raise UnknownNameError("expert", self.task, self.experts)
        return self


def check_directory_names(experts: list[str]) -> None:
    """Check that experts' names will do for directories, one for each task.

    Args:
        experts: the names.

    Raises:
        InputError: if one will not do.
    """
    for name in experts:
        if name != name.strip() or name.startswith(".") or not name or "/" in name:
            raise InputError(
                f"The expert's name {name!r} will not do for the directory of its "
                f"task's model: give it another, or name one expert as the task."
            )
