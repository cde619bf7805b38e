"""Models in files, recipes for them, and the command line."""

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mergegrid import merge
from mergegrid.cli import main


def model(seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        "fc.bias": torch.randn(3, generator=generator),
        "fc.weight": torch.randn(3, 4, generator=generator),
    }


@pytest.fixture(scope="session")
def parameters():
    """What is in the files: a pretrained model and the experts a and b."""
    return {"pretrained": model(0), "a": model(1), "b": model(2)}


@pytest.fixture
def models(tmp_path, parameters):
    """A directory with a directory for each model."""
    for name, tensors in parameters.items():
        directory = tmp_path / name
        directory.mkdir()
        save_file(tensors, directory / "model.safetensors")
        (directory / "config.json").write_text(f'{{"model": "{name}"}}')
    (tmp_path / "pretrained" / "tokenizer.txt").write_text("a b c")
    (tmp_path / "pretrained" / "pytorch_model.bin").write_text("never copied")
    (tmp_path / "pretrained" / ".cache").write_text("never copied")
    return tmp_path


@pytest.fixture
def spoil(models, parameters):
    """Write a model again, with some tensors in the place of its own."""

    def write(name, **tensors):
        changed = {**parameters[name], **tensors}
        save_file(changed, models / name / "model.safetensors")

    return write


@pytest.fixture
def write_recipe(models):
    """Write the recipe of a TIES merge, with some keys changed, or left out if None."""

    def write(**changes):
        recipe = {
            "method": "ties",
            "pretrained": "pretrained",
            "experts": {"a": "a", "b": "b"},
            **changes,
        }
        kept = {key: value for key, value in recipe.items() if value is not None}
        path = models / "recipe.yaml"
        path.write_text(yaml.safe_dump(kept, sort_keys=False))
        return path

    return write


@pytest.fixture
def run():
    """Run a command in this process; give its exit status."""
    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture
def failure(run, capsys):
    """Run a command that fails for the user's mistake; give the line that says so."""

    def fail(*arguments):
        assert run(*arguments) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("error: ")
        assert output.err.count("\n") == 1
        return output.err

    return fail


@pytest.fixture
def assert_merged(parameters):
    """Check that a directory holds what merging in memory gives, bit for bit."""

    def check(directory, recipe, statistics=None, **options):
        experts = {name: parameters[name] for name in "ab"}
        expected = merge(
            experts, recipe, parameters["pretrained"], statistics, **options
        )
        merged = {}
        for file in directory.glob("*.safetensors"):
            merged |= load_file(file)
        torch.testing.assert_close(merged, dict(expected), rtol=0, atol=0)

    return check
