"""The command line, on models that are written and read as files."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mergegrid import merge
from mergegrid.cli import main
from mergegrid.engine import read_recipe
from mergegrid.methods import METHODS
from mergegrid.methods.method import Need
from mergegrid.recipe_file import RecipeFile

ROOT = Path(__file__).parents[1]


def model(seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        "fc.bias": torch.randn(3, generator=generator),
        "fc.weight": torch.randn(3, 4, generator=generator),
    }


MODELS = {"pretrained": model(0), "a": model(1), "b": model(2)}


@pytest.fixture
def models(tmp_path):
    for name, parameters in MODELS.items():
        directory = tmp_path / name
        directory.mkdir()
        save_file(parameters, directory / "model.safetensors")
        (directory / "config.json").write_text(f'{{"model": "{name}"}}')
    (tmp_path / "pretrained" / "tokenizer.txt").write_text("a b c")
    (tmp_path / "pretrained" / "pytorch_model.bin").write_text("never copied")
    (tmp_path / "pretrained" / ".cache").write_text("never copied")
    return tmp_path


def write_recipe(models, **changes):
    recipe = {
        "method": "ties",
        "pretrained": "pretrained",
        "experts": {"a": "a", "b": "b"},
        **changes,
    }
    kept = {key: value for key, value in recipe.items() if value is not None}
    (models / "recipe.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))
    return models / "recipe.yaml"


def run(*arguments):
    return main([str(argument) for argument in arguments])


def failure(capsys, *arguments):
    assert run(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    message = output.err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def assert_merged(directory, expected):
    merged = load_file(directory / "model.safetensors")
    torch.testing.assert_close(merged, dict(expected), rtol=0, atol=0)


def test_merging_files_is_merging_tensors(models, capsys):
    out = models / "deep" / "out"
    assert run("merge", write_recipe(models, options={"density": 0.5}), out) == 0
    experts = {name: MODELS[name] for name in "ab"}
    recipe = {"method": "ties", "options": {"density": 0.5}}
    assert_merged(out, merge(experts, recipe, MODELS["pretrained"]))
    assert "ties density=0.5" in capsys.readouterr().out


def test_companions_come_from_the_pretrained_model(models):
    run("merge", write_recipe(models), models / "out")
    assert sorted(path.name for path in (models / "out").iterdir()) == [
        "README.md",
        "config.json",
        "merge.json",
        "model.safetensors",
        "tokenizer.txt",
    ]
    assert json.loads((models / "out" / "config.json").read_text()) == {
        "model": "pretrained"
    }


def test_companions_come_from_the_first_expert_without_a_pretrained_model(models):
    recipe = write_recipe(models, method="average", pretrained=None)
    run("merge", recipe, models / "out")
    assert json.loads((models / "out" / "config.json").read_text()) == {"model": "a"}


def test_the_report_says_what_went_in_and_nothing_about_the_machine(models):
    run("merge", write_recipe(models, seed=3), models / "out")
    text = (models / "out" / "merge.json").read_text()
    report = json.loads(text)
    assert report["recipe"] == json.loads(
        json.dumps(METHODS["ties"].recipe().identity())
    )
    assert report["seed"] == 3
    assert report["pretrained"]["path"] == "pretrained"
    digest = report["experts"]["b"]["sha256"]["model.safetensors"]
    summed = subprocess.run(
        ["sha256sum", models / "b" / "model.safetensors"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert digest == summed.stdout.split()[0]
    assert report["provenance"]["versions"]["torch"]
    assert str(models) not in text


@pytest.mark.parametrize("need", ["fisher", "gram"])
def test_statistics_are_read_from_files(models, need):
    measured = {}
    for name in "ab":
        weight = MODELS[name]["fc.weight"]
        measured[name] = {
            "fc.weight": weight.mT @ weight if need == "gram" else weight**2
        }
        save_file(measured[name], models / f"{name}-{need}.safetensors")
    method = "regmean" if need == "gram" else "fisher"
    recipe = write_recipe(
        models,
        method=method,
        pretrained=None,
        statistics={need: {name: f"{name}-{need}.safetensors" for name in "ab"}},
    )
    assert run("merge", recipe, models / "out") == 0
    experts = {name: MODELS[name] for name in "ab"}
    assert_merged(
        models / "out", merge(experts, method, statistics={Need(need): measured})
    )


def test_a_model_may_be_a_file_or_sharded(models):
    shards = models / "sharded"
    shards.mkdir()
    weight_map = {}
    for number, (name, tensor) in enumerate(MODELS["b"].items()):
        save_file({name: tensor}, shards / f"part-{number}.safetensors")
        weight_map[name] = f"part-{number}.safetensors"
    index = json.dumps({"weight_map": weight_map})
    (shards / "model.safetensors.index.json").write_text(index)
    paths = {"a": "a/model.safetensors", "b": "sharded"}
    run("merge", write_recipe(models, experts=paths), models / "out")
    experts = {name: MODELS[name] for name in "ab"}
    assert_merged(models / "out", merge(experts, "ties", MODELS["pretrained"]))
    report = json.loads((models / "out" / "merge.json").read_text())
    assert len(report["experts"]["b"]["sha256"]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "tise"}, "no merge method 'tise'. Did you mean 'ties'"),
        ({"options": {"desnity": 0.1}}, "no option of ties 'desnity'"),
        ({"options": {"density": 7}}, "ties: density = 7 is not possible"),
        ({"expert": {}}, "'expert'. Did you mean 'experts'"),
        ({"experts": {}}, "experts: dictionary should have at least 1 item"),
        ({"experts": None}, "experts is missing"),
        ({"experts": {"a": "a", "b": "elsewhere"}}, "no model at"),
        ({"experts": {"a": "pretrained/pytorch_model.bin"}}, "other formats are not"),
        ({"pretrained": None}, "ties needs the pretrained parameters"),
        ({"method": "regmean"}, "regmean needs the gram statistic of expert 'a'"),
        ({"method": "slerp", "experts": {"a": "a"}}, "exactly 2 experts, not 1"),
        ({"statistics": {"fischer": {}}}, "no key 'fischer'. Did you mean 'fisher'"),
    ],
)
def test_a_fault_in_a_recipe_is_one_line_and_leaves_nothing(
    models, capsys, changes, message
):
    before = sorted(models.iterdir())
    recipe = write_recipe(models, **changes)
    assert message.lower() in failure(capsys, "merge", recipe, models / "out").lower()
    assert sorted(models.iterdir()) == sorted([*before, recipe])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "holds a list instead of a mapping"),
        ("", "holds nothing instead of a mapping"),
        ("method: [", "is not YAML"),
        ("method: ties\nmethod: dare\n", "a key is written twice"),
        (b"\xff\xfe\x00", "it is not text"),
    ],
)
def test_a_recipe_that_is_no_mapping_is_one_line(tmp_path, capsys, text, message):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in failure(capsys, "merge", recipe, tmp_path / "out")


def test_a_recipe_that_is_not_there_is_named(tmp_path, capsys):
    missing = tmp_path / "nothing.yaml"
    message = failure(capsys, "merge", missing, tmp_path / "out")
    assert f"Cannot read {missing}: No such file" in message


def spoil(models, name, **tensors):
    save_file({**MODELS[name], **tensors}, models / name / "model.safetensors")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"fc.bias": torch.ones(4)}, "expert 'b' has 'fc.bias' with shape (4,)"),
        ({"fc.bias": torch.ones(3).int()}, "expert 'b' has 'fc.bias' in int32"),
        ({"extra": torch.ones(1)}, "expert 'b' has a parameter 'extra'"),
        (
            {"fc.bias": torch.tensor([0, torch.nan, 0])},
            "expert 'b' has NaN or infinity",
        ),
    ],
)
def test_experts_that_do_not_fit_are_one_line(models, capsys, tensors, message):
    spoil(models, "b", **tensors)
    assert message in failure(capsys, "merge", write_recipe(models), models / "out")
    assert not (models / "out").exists()


def test_a_truncated_model_is_one_line(models, capsys):
    file = models / "b" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    message = failure(capsys, "merge", write_recipe(models), models / "out")
    assert f"b/{file.name} is cut off: 'fc.weight' is not all there" in message


def test_an_index_that_lists_a_missing_shard_is_one_line(models, capsys):
    index = models / "b" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"fc.bias": "gone.safetensors"}}))
    message = failure(capsys, "merge", write_recipe(models), models / "out")
    assert "lists gone.safetensors, which is not there" in message
    index.write_text("[]")
    message = failure(capsys, "merge", write_recipe(models), models / "out")
    assert "is no index of a sharded model" in message


def test_nothing_is_overwritten(models, capsys):
    recipe = write_recipe(models)
    assert run("merge", recipe, models / "out") == 0
    capsys.readouterr()
    before = (models / "out" / "merge.json").stat().st_mtime_ns
    assert "exists already" in failure(capsys, "merge", recipe, models / "out")
    assert (models / "out" / "merge.json").stat().st_mtime_ns == before


def test_a_full_disk_is_one_line_and_leaves_nothing(models):
    recipe = write_recipe(models)
    before = sorted(models.iterdir())
    script = "import sys; from mergegrid.cli import main; sys.exit(main(sys.argv[1:]))"

    def no_room():
        # A limit on the size of files fails a write as a full disk does, for real.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = subprocess.run(
        [sys.executable, "-c", script, "merge", recipe, models / "out"],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=no_room,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: Cannot write to ")
    assert done.stderr.count("\n") == 1
    assert sorted(models.iterdir()) == before


def test_methods_are_listed_for_people(capsys):
    assert run("methods") == 0
    listed = capsys.readouterr().out
    for name, method in METHODS.items():
        assert f"{name}  ({method.title}; needs " in listed
        for option in method.options.model_fields:
            assert f"    {option} = " in listed


def test_methods_are_listed_for_programs(capsys):
    assert run("methods", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [method["name"] for method in listed] == list(METHODS)
    ties = next(method for method in listed if method["name"] == "ties")
    assert ties["needs"] == ["pretrained", "trim"]
    assert ties["options"]["density"]["default"] == 0.2
    assert ties["options"]["density"]["maximum"] == 1
    assert ties["options"]["aggregate"]["enum"] == ["mean", "sum", "max"]


def test_a_merged_model_can_be_inspected(models, capsys):
    run("merge", write_recipe(models), models / "out")
    capsys.readouterr()
    assert run("inspect", models / "out") == 0
    shown = capsys.readouterr().out
    assert "2 tensors, 15 numbers (15 float32)" in shown
    assert "merged by ties density=0.2" in shown
    assert "expert a: a" in shown
    assert "pretrained: pretrained" in shown
    assert "fc.weight  [3, 4] float32" in shown


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"recipe": 3}'])
def test_a_report_that_is_none_is_one_line(models, capsys, text):
    (models / "a" / "merge.json").write_text(text)
    assert "is not the report of a merge" in failure(capsys, "inspect", models / "a")


def test_a_directory_without_a_model_is_one_line(tmp_path, capsys):
    assert "it holds none" in failure(capsys, "inspect", tmp_path)
    assert "no model at" in failure(capsys, "inspect", tmp_path / "elsewhere")


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "recipes").glob("*.yaml")))
def test_the_recipes_that_come_along_are_valid(path):
    file = RecipeFile.model_validate(yaml.safe_load(path.read_text()))
    assert read_recipe({"method": file.method, "options": file.options})
