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
from mergegrid.preflight import preflight
from mergegrid.safetensors_files import SafetensorsSource


def model(**changes):
    made = {
        "embed.weight": torch.zeros(10, 4),
        "layers.0.bias": torch.zeros(3),
        "layers.0.weight": torch.zeros(3, 4),
        "norm.running_mean": torch.zeros(3),
        "position_ids": torch.arange(5),
    }
    return {name: t for name, t in (made | changes).items() if t is not None}


@pytest.fixture(autouse=True)
def _no_tensor_is_read(monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(SafetensorsSource, "read", refuse)


@pytest.fixture
def look(tmp_path):
    """Write models and a recipe, and look at them."""

    def write(name, parameters, config=None):
        directory = tmp_path / name
        directory.mkdir()
        save_file(parameters, directory / "model.safetensors")
        if config is not None:
            (directory / "config.json").write_text(json.dumps(config))

    def run(models=None, configs=None, out=None, **recipe):
        models = {"p": model(), "a": model(), "b": model()} | (models or {})
        configs = configs or {}
        for name, parameters in models.items():
            write(name, parameters, configs.get(name))
        document = {
            "method": "task_arithmetic",
            "pretrained": "p",
            "experts": {"a": "a", "b": "b"},
            **recipe,
        }
        kept = {key: value for key, value in document.items() if value is not None}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(kept))
        inputs = open_inputs(read_merge_file(path))
        return inputs, preflight(inputs, out)

    return run


def test_without_faults_there_is_no_error(look):
    _, found = look()
    assert found.faults == ()
    assert found.error is None
    assert found.notes == ()


def test_every_difference_is_listed(look):
    _, found = look(
        {
            "a": model(extra=torch.zeros(1), **{"layers.0.bias": torch.zeros(4)}),
            "b": model(
                **{
                    "layers.0.weight": None,
                    "layers.0.bias": torch.zeros(3, dtype=torch.int32),
                    "position_ids": torch.arange(6),
                }
            ),
        }
    )
    text = "\n".join(found.faults)
    assert len(found.faults) == len(text.splitlines()) == 6
    for part in ("'extra'", "'layers.0.weight'", "int32", "(6,)", "(4,)"):
        assert part in text, part
    assert isinstance(found.error, LayoutError)
    assert found.costs is None


def test_many_differences_are_all_listed_and_counted_in_the_error(look):
    more = {f"extra.{number}": torch.zeros(1) for number in range(30)}
    _, found = look({"b": model(**more)})
    assert len(found.faults) == 30
    assert "and 10 more differences" in str(found.error)


def test_faults_of_several_kinds_are_found_together(look):
    _, found = look(pretrained=None, method="ties", experts={"a": "a"})
    assert isinstance(found.error, MissingPrerequisiteError)
    _, found = look_again(look, method="slerp", experts={"a": "a"}, pretrained=None)
    assert isinstance(found.error, InputError)
    assert "exactly 2 experts, not 1" in str(found.error)


def look_again(look, **recipe):
    return look({}, **recipe) if False else _rerun(look, recipe)


def _rerun(look, recipe):
    # The models are there already.
    import pathlib

    closure = dict(zip(look.__code__.co_freevars, look.__closure__, strict=True))
    root = closure["tmp_path"].cell_contents
    for name in "pab":
        shutil.rmtree(pathlib.Path(root) / name)
    return look(**recipe)
