"""What stands in a merge's way is known, all of it, before any tensor is read."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import save_file

from mergegrid.errors import InputError, LayoutError, MissingPrerequisiteError
from mergegrid.inputs import open_inputs
from mergegrid.merge_file import read_merge_file
from mergegrid.methods import METHODS
from mergegrid.preflight import preflight
from mergegrid.preflight_text import preflight_lines, short_line
from mergegrid.safetensors_files import SafetensorsSource


def model(**changes):
    made = {
        "embed.weight": torch.zeros(10, 4),
        "layers.0.bias": torch.zeros(3),
        "layers.0.weight": torch.zeros(3, 4),
        "norm.running_mean": torch.zeros(3),
        "position_ids": torch.arange(5),
    }
    named = {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return {name: t for name, t in (made | named).items() if t is not None}


NUMBERS = 10 * 4 + 3 + 3 * 4
"""Those that are merged."""


@pytest.fixture(autouse=True)
def _no_tensor_is_read(monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(SafetensorsSource, "read", refuse)


@pytest.fixture
def look(tmp_path):
    """Write models and a recipe, and look at their headers."""

    def run(models=None, *, configs=None, text=None, out=None, **recipe):
        models = {"p": model(), "a": model(), "b": model()} | (models or {})
        for name, parameters in models.items():
            directory = tmp_path / name
            directory.mkdir(exist_ok=True)
            save_file(parameters, directory / "model.safetensors")
            if configs and name in configs:
                config = json.dumps(configs[name])
                (directory / "config.json").write_text(config)
        document = {
            "method": "task_arithmetic",
            "pretrained": "p",
            "experts": {"a": "a", "b": "b"},
            **recipe,
        }
        kept = {key: value for key, value in document.items() if value is not None}
        path = tmp_path / "recipe.yaml"
        path.write_text(text or yaml.safe_dump(kept))
        inputs = open_inputs(read_merge_file(path))
        return inputs, preflight(inputs, out)

    return run


def test_without_faults_there_is_no_error(look):
    _, found = look()
    assert found.faults == ()
    assert found.error is None
    assert found.notes == ()


# Faults


def test_every_difference_is_listed(look):
    _, found = look(
        {
            "a": model(extra=torch.zeros(1), layers__0__bias=torch.zeros(4)),
            "b": model(layers__0__weight=None, position_ids=torch.arange(6)),
            "p": model(norm__running_mean=torch.zeros(3, dtype=torch.int32)),
        }
    )
    assert sorted(found.faults) == sorted(
        [
            "the expert 'a' has a parameter 'extra', the expert 'b' has not.",
            "the expert 'a' has a parameter 'extra', the pretrained model has not.",
            "the expert 'a' has a parameter 'layers.0.weight', the expert 'b' has not.",
            "the expert 'b' has 'layers.0.bias' with shape (3,), the expert 'a' has it "
            "with shape (4,) (to merge the rows that all have: vocabulary: intersect).",
            "the pretrained model has 'layers.0.bias' with shape (3,), the expert 'a' "
            "has it with shape (4,) (to merge the rows that all have: vocabulary: "
            "intersect).",
            "the expert 'b' has 'position_ids' with shape (6,), the expert 'a' has it "
            "with shape (5,) (to merge the rows that all have: vocabulary: intersect).",
            "the pretrained model has 'norm.running_mean' in int32, the expert 'a' has "
            "it in float32.",
        ]
    )
    assert isinstance(found.error, LayoutError)
    assert found.costs is None


def test_many_differences_are_all_listed_and_counted_in_the_error(look):
    more = {f"extra.{number}": torch.zeros(1) for number in range(30)}
    _, found = look({"b": model(**more)})
    assert len(found.faults) == 30
    assert "and 10 more differences" in str(found.error)


def test_faults_of_several_kinds_are_found_together(look):
    quantized = {"quantization_config": {"bits": 4}}
    _, found = look(method="slerp", experts={"a": "a"}, configs={"a": quantized})
    assert len(found.faults) == 2
    assert isinstance(found.error, InputError)
    assert "The expert 'a' is quantized" in str(found.error)
    assert "exactly 2 experts, not 1" in str(found.error)


def test_models_that_do_not_fit_hide_no_other_fault(look):
    quantized = {"quantization_config": {"bits": 4}}
    _, found = look({"b": model(layers__0__bias=None)}, configs={"a": quantized})
    assert len(found.faults) == 2
    assert "The expert 'a' is quantized" in str(found.error)
    assert "the expert 'b' has not" in str(found.error)


def test_what_is_missing_is_named(look):
    _, found = look(method="ties", pretrained=None)
    assert isinstance(found.error, MissingPrerequisiteError)
    assert "ties needs the pretrained parameters" in str(found.error)
    _, found = look(method="regmean")
    assert "regmean needs the gram statistic of expert 'a'" in str(found.error)
    assert found.costs is not None


def test_a_statistic_of_a_wrong_shape_is_named(look, tmp_path):
    for name in "ab":
        gram = {"layers.0.weight": torch.zeros(3, 3)}
        save_file(gram, tmp_path / f"{name}-gram.safetensors")
    grams = {name: f"{name}-gram.safetensors" for name in "ab"}
    _, found = look(method="regmean", statistics={"gram": grams})
    assert "with shape (3, 3), instead of (4, 4)" in str(found.error)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bit_numbers_are_not_merged(look, dtype):
    narrow = model(layers__0__weight=torch.zeros(3, 4).to(dtype))
    _, found = look({"b": narrow})
    assert "The expert 'b' has tensors of 8-bit" in str(found.error)
    assert "'layers.0.weight'" in str(found.error)


def test_a_disk_that_is_too_small_is_named(look, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    _, found = look(out=tmp_path / "deep" / "out")
    assert "deep/out has room for 100 B, but the merged model takes" in str(found.error)


def test_mergekits_faults_are_found_too(look):
    text = """
merge_method: ties
base_model: p
models:
  - model: a
  - model: b
    parameters: {weight: 1}
"""
    _, found = look(text=text)
    assert "there is no weight for a" in str(found.error)


# Vocabularies


def test_a_vocabulary_that_differs_is_an_error_with_its_way_out(look):
    _, found = look({"b": model(embed__weight=torch.zeros(8, 4))})
    assert "vocabulary: intersect" in str(found.error)
    _, found = look({"b": model(embed__weight=torch.zeros(8, 5))})
    assert "vocabulary: intersect" not in str(found.error)
    _, found = look(
        {"b": model(embed__weight=torch.zeros(8, 5))}, vocabulary="intersect"
    )
    assert "(8, 5)" in str(found.error)


def test_a_vocabulary_that_is_resolved_is_said(look):
    _, found = look(
        {"b": model(embed__weight=torch.zeros(8, 4))}, vocabulary="intersect"
    )
    assert found.error is None
    assert found.vocabulary == (
        "embed.weight: the first 8 of 10 rows are merged, the rest is the pretrained "
        "model's",
    )


# Notes


def test_configurations_that_differ_are_noted_where_it_matters(look):
    usual = {"model_type": "x", "rope_theta": 1, "dtype": "float32", "use_cache": True}
    other = {**usual, "rope_theta": 2, "dtype": "bfloat16", "use_cache": False}
    _, found = look(configs={"p": usual, "a": usual, "b": other})
    assert found.error is None
    assert found.notes == (
        "The config.json of the expert 'b' is not that of the merged model: they "
        "differ in rope_theta.",
    )


def test_what_mergekit_does_not_use_is_noted(look):
    text = """
merge_method: task_arithmetic
base_model: p
models:
  - model: a
    parameters: {weight: 1, density: 0.5}
  - model: b
    parameters: {weight: 1}
"""
    _, found = look(text=text)
    assert found.error is None
    assert "models[0].parameters.density has no effect" in found.notes[0]


# Costs


def test_bytes_are_counted_by_passes(look):
    buffers = 5 * 8 * 4 + 3 * 4 * 2  # three models and the reference; two experts
    every = 3 * 4 * NUMBERS
    for recipe, passes in (
        ({}, 1),
        ({"options": {"match_norm": True}}, 3),
        ({"method": "ties"}, 4),
        ({"method": "ties", "options": {"scope": "tensor"}}, 1),
        ({"method": "ties", "options": {"zero_sum": "strict"}}, 3),
    ):
        _, found = look(**recipe)
        assert found.costs.bytes_to_read == passes * every + buffers, recipe
    _, found = look(method="average")
    assert found.costs.bytes_to_read == 2 * 4 * NUMBERS + buffers


def test_the_means_that_total_variances_take_are_read_again(look):
    statistics = {"norm__running_var": torch.ones(3)}
    models = {name: model(**statistics) for name in "pab"}
    alone = {"norm__running_mean": None, "other__running_mean": torch.zeros(3)}
    without = {name: model(**(statistics | alone)) for name in "pab"}
    for given, more in ((models, 2 * 4 * 3), (without, 0)):
        _, average = look(given)
        _, total = look(given, running_variance="total")
        assert total.costs.bytes_to_read - average.costs.bytes_to_read == more


def test_bytes_to_write_follow_from_the_type_and_the_tasks(look):
    buffers = 5 * 8
    _, found = look()
    assert found.costs.bytes_to_write == 4 * (NUMBERS + 3) + buffers
    _, found = look(output_dtype="bfloat16")
    assert found.costs.bytes_to_write == 2 * (NUMBERS + 3) + buffers
    _, found = look(method="emr")
    assert found.costs.bytes_to_write == 2 * (4 * (NUMBERS + 3) + buffers)
    assert found.costs.files == 2
    _, found = look(max_shard_size=100)
    assert found.costs.files == 3


def test_operations_are_those_of_the_method(look):
    _, found = look()
    (flops, paper) = (found.costs.flops, found.costs.paper_flops)
    counted = METHODS["task_arithmetic"].flops((NUMBERS,), 2)
    assert flops == counted
    assert paper == (2 * 2 + 1) * NUMBERS


def test_operations_are_counted_with_the_fallback(look, tmp_path):
    for name in "ab":
        gram = {"layers.0.weight": torch.zeros(4, 4)}
        save_file(gram, tmp_path / f"{name}-gram.safetensors")
    grams = {name: f"{name}-gram.safetensors" for name in "ab"}
    _, found = look(method="regmean", pretrained=None, statistics={"gram": grams})
    linear = METHODS["regmean"].flops((3, 4), 2, **METHODS["regmean"].recipe().options)
    assert found.costs.flops == linear + METHODS["average"].flops((43,), 2)
    assert found.others == ("embed.weight", "layers.0.bias")


def test_memory_grows_with_the_largest_tensor(look):
    _, small = look()
    large = {name: model(embed__weight=torch.zeros(1_000_000, 8)) for name in "pab"}
    _, found = look(large)
    more = found.costs.memory - small.costs.memory
    assert more == pytest.approx(3 * 4 * 8_000_000, rel=0.01)
    _, whole = look(large, method="iso_c")
    assert whole.costs.memory > found.costs.memory + 2 * 4 * 8_000_000
    # Of a matrix with as many entries, the smaller side decides what is decomposed.
    square = {name: model(embed__weight=torch.zeros(4000, 2000)) for name in "pab"}
    _, broad = look(square, method="iso_c")
    more = broad.costs.memory - whole.costs.memory
    decomposing = 24 * 2000**2 + 4 * 8_000_000 - 2 * 4 * 8_000_000
    assert more == pytest.approx(decomposing, rel=0.01)


# Words


def test_the_words_hold_everything(look):
    inputs, found = look(
        {"b": model(embed__weight=torch.zeros(8, 4))},
        configs={"p": {"a": 1}, "b": {"a": 2}},
        vocabulary="intersect",
        method="ties",
    )
    lines = list(preflight_lines(inputs, found))
    text = "\n".join(lines)
    assert lines[0].startswith("recipe            ties density=0.2")
    for part in (
        "expert 'a'        a: 272 B float32, int64 in 1 file",
        "tensors           5 (3 merged, 1 averaged, 1 copied), 63 numbers",
        "vocabulary        embed.weight: the first 8 of 10 rows",
        "reads             ",
        "writes            272 B in 1 file",
        "memory            about ",
        "FLOPs             ",
        "copied            config.json",
        "warning           The config.json of the expert 'b'",
    ):
        assert part in text, f"{part!r} is not in\n{text}"
    assert "fault" not in text
    assert short_line(found).startswith("reads ")


def test_the_words_hold_every_fault(look):
    inputs, found = look({"b": model(layers__0__bias=None, embed__weight=None)})
    lines = list(preflight_lines(inputs, found))
    assert [line[18:] for line in lines if line.startswith("fault")] == [*found.faults]
    assert len(found.faults) == 2
