"""The command `merge`: what it reads, and what it makes of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mergegrid import merge
from mergegrid.engine import read_recipe
from mergegrid.methods.needs import Need
from mergegrid.recipe_file import RecipeFile

ROOT = Path(__file__).parents[2]


MERGEKIT = """
merge_method: ties
base_model: pretrained
models:
  - model: a
    parameters: {density: 0.5, weight: 1}
  - model: b
    parameters: {density: 0.5, weight: [0.5, 2]}
parameters: {t: 0.5}
"""


def test_merging_files_is_merging_tensors(
    models, capsys, write_recipe, run, assert_merged
):
    out = models / "deep" / "out"
    assert run("merge", write_recipe(options={"density": 0.5}), out) == 0
    assert_merged(out, {"method": "ties", "options": {"density": 0.5}})
    assert "ties density=0.5" in capsys.readouterr().out


@pytest.mark.parametrize("need", ["fisher", "gram"])
def test_statistics_are_read_from_files(
    models, need, parameters, write_recipe, run, assert_merged
):
    measured = {}
    for name in "ab":
        weight = parameters[name]["fc.weight"]
        measured[name] = {
            "fc.weight": weight.mT @ weight if need == "gram" else weight**2
        }
        save_file(measured[name], models / f"{name}-{need}.safetensors")
    method = "regmean" if need == "gram" else "fisher"
    recipe = write_recipe(
        method=method,
        pretrained=None,
        statistics={need: {name: f"{name}-{need}.safetensors" for name in "ab"}},
    )
    assert run("merge", recipe, models / "out") == 0
    assert_merged(models / "out", method, {Need(need): measured})


def test_given_signs_and_gradients_are_read_from_files(
    models, parameters, write_recipe, run, assert_merged
):
    signs = {name: t.sign() for name, t in parameters["a"].items()}
    save_file(signs, models / "signs.safetensors")
    recipe = write_recipe(
        options={"election": "given"},
        statistics={"signs": "signs.safetensors"},
    )
    assert run("merge", recipe, models / "out") == 0
    chosen = {"method": "ties", "options": {"election": "given"}}
    statistics = {Need.SIGNS: {"any": signs}}
    assert_merged(models / "out", chosen, statistics)
    report = json.loads((models / "out" / "merge.json").read_text())
    assert report["statistics"]["signs"]["signs"]["path"] == "signs.safetensors"

    measured = {Need.GRAM: {}, Need.GRADIENT: {}}
    for name in "ab":
        weight = parameters[name]["fc.weight"]
        measured[Need.GRAM][name] = {"fc.weight": weight.mT @ weight}
        measured[Need.GRADIENT][name] = {"fc.weight": weight @ weight.mT}
    for need, of_experts in measured.items():
        for name, tensors in of_experts.items():
            save_file(tensors, models / f"{need}-{name}.safetensors")
    recipe = write_recipe(
        method="mats",
        options={"covariance": "kfac"},
        statistics={
            need.value: {name: f"{need}-{name}.safetensors" for name in "ab"}
            for need in measured
        },
    )
    assert run("merge", recipe, models / "kfac") == 0
    chosen = {"method": "mats", "options": {"covariance": "kfac"}}
    assert_merged(models / "kfac", chosen, measured)


def test_a_model_may_be_a_file_or_sharded(
    models, parameters, write_recipe, run, assert_merged
):
    shards = models / "sharded"
    shards.mkdir()
    weight_map = {}
    for number, (name, tensor) in enumerate(parameters["b"].items()):
        save_file({name: tensor}, shards / f"part-{number}.safetensors")
        weight_map[name] = f"part-{number}.safetensors"
    index = json.dumps({"weight_map": weight_map})
    (shards / "model.safetensors.index.json").write_text(index)
    paths = {"a": "a/model.safetensors", "b": "sharded"}
    run("merge", write_recipe(experts=paths), models / "out")
    assert_merged(models / "out", "ties")
    report = json.loads((models / "out" / "merge.json").read_text())
    assert len(report["experts"]["b"]["sha256"]) == 2


def test_large_models_are_written_in_shards(models, write_recipe, run, assert_merged):
    run("merge", write_recipe(max_shard_size="48 B"), models / "out")
    index = json.loads((models / "out" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) == 2
    assert_merged(models / "out", "ties")
    # and read again
    recipe = write_recipe(experts={"a": "out", "b": "b"})
    assert run("merge", recipe, models / "again") == 0


def test_vocabularies_are_merged_where_the_recipe_says_so(
    models, parameters, write_recipe, run, failure, spoil, assert_merged
):
    wide = torch.cat([parameters["b"]["fc.weight"], torch.ones(2, 4)])
    spoil("b", **{"fc.weight": wide})
    message = failure("merge", write_recipe(), models / "out")
    assert "vocabulary: intersect" in message
    recipe = write_recipe(vocabulary="intersect")
    assert run("merge", recipe, models / "out") == 0
    assert_merged(models / "out", "ties")


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "recipes").glob("*.yaml")))
def test_the_recipes_that_come_along_are_valid(path):
    file = RecipeFile.model_validate(yaml.safe_load(path.read_text()))
    assert read_recipe({"method": file.method, "options": file.options})


def test_without_a_task_there_is_a_directory_for_each(
    models, capsys, write_recipe, run, assert_merged
):
    recipe = write_recipe(method="emr")
    assert run("merge", recipe, models / "out") == 0
    assert sorted(path.name for path in (models / "out").iterdir()) == ["a", "b"]
    for task in "ab":
        assert_merged(models / "out" / task, "emr", task=task)
        assert (models / "out" / task / "config.json").is_file()
        report = json.loads((models / "out" / task / "merge.json").read_text())
        assert report["task"] == task
        card = (models / "out" / task / "README.md").read_text()
        assert f"for the task of expert `{task}`" in card
    capsys.readouterr()
    run("inspect", models / "out" / "b")
    assert "for the task of expert b" in capsys.readouterr().out


def test_with_a_task_its_model_is_written(models, write_recipe, run, assert_merged):
    recipe = write_recipe(method="tall_masks", task="b")
    assert run("merge", recipe, models / "out") == 0
    assert_merged(models / "out", "tall_masks", task="b")


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_file_of_mergekits_is_merged_as_it_is(
    models, capsys, monkeypatch, elsewhere, parameters, run
):
    file = models / "deep" / "mergekit.yml" if elsewhere else models / "mergekit.yml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(MERGEKIT)
    # mergekit's paths start where it is called; ours with the file.
    monkeypatch.chdir(models if elsewhere else ROOT)
    assert run("merge", file, models / "out") == 0
    output = capsys.readouterr()
    assert "mergekit's ties" in output.out
    assert "warning: parameters.t has no effect" in output.err
    merged = load_file(models / "out" / "model.safetensors")
    options = {
        "scope": "tensor", "zero_sum": "plus", "density": 0.5, "weights": (1.0, 0.5),
    }  # fmt: skip
    for name, tensor in merged.items():
        expected = merge(
            {expert: {name: parameters[expert][name]} for expert in "ab"},
            {"method": "ties", "options": options},
            {name: parameters["pretrained"][name]},
        )
        assert torch.equal(tensor, expected[name])
    report = json.loads((models / "out" / "merge.json").read_text())
    (only,) = report["recipes"]
    assert only["method"] == "ties"
    assert only["parameters"] == ["fc.bias", "fc.weight"]
    assert "parameters.t has no effect" in report["notes"][0]
    assert run("inspect", models / "out") == 0
    assert "merged by mergekit's ties" in capsys.readouterr().out
    assert "merge_method: ties" in (models / "out" / "README.md").read_text()


def test_without_a_type_a_file_of_mergekits_gets_the_widest(
    models, monkeypatch, parameters, run, spoil
):
    spoil("a", **{name: t.half() for name, t in parameters["a"].items()})
    spoil("b", **{name: t.bfloat16() for name, t in parameters["b"].items()})
    (models / "mergekit.yml").write_text(
        "{merge_method: linear, models: [{model: a, parameters: {weight: 1}}, "
        "{model: b, parameters: {weight: 1}}]}"
    )
    monkeypatch.chdir(models)
    assert run("merge", "mergekit.yml", "out") == 0
    merged = load_file(models / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in merged.values()} == {torch.float32}


def test_a_dry_run_says_what_would_be_and_writes_nothing(
    models, capsys, write_recipe, run
):
    recipe = write_recipe()
    before = sorted(models.rglob("*"))
    assert run("merge", recipe, models / "out", "--dry-run") == 0
    with_out = capsys.readouterr()
    assert run("merge", "--dry-run", recipe) == 0
    assert capsys.readouterr() == with_out
    assert with_out.err == ""
    assert "copied            config.json, tokenizer.txt\n" in with_out.out
    assert sorted(models.rglob("*")) == before


def test_a_dry_run_lists_all_faults(capsys, write_recipe, run, spoil):
    spoil("a", extra=torch.zeros(1))
    spoil("b", **{"fc.bias": torch.zeros(9)})
    assert run("merge", "--dry-run", write_recipe()) == 2
    output = capsys.readouterr()
    faults = [line for line in output.out.splitlines() if line.startswith("fault")]
    assert len(faults) == 3
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1


def test_a_configuration_that_differs_is_a_warning(models, capsys, write_recipe, run):
    run("merge", write_recipe(), models / "out")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("warning: The config.json of the") for line in lines)


@pytest.mark.parametrize("base_too", [True, False])
def test_task_vectors_that_rounding_has_eaten_are_a_warning(
    models, capsys, base_too, write_recipe, run, spoil
):
    large = torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
    small = 1e-4 * large.flip(0)
    pretrained = large.bfloat16() if base_too else large
    spoil("pretrained", **{"fc.weight": pretrained})
    spoil("a", **{"fc.weight": (pretrained.float() + small).bfloat16()})
    spoil("b", **{"fc.weight": pretrained.float() + small})
    spoil("pretrained", **{"fc.weight": pretrained})
    assert run("merge", write_recipe(), models / "out") == 0
    lines = capsys.readouterr().err.splitlines()
    (warning,) = [line for line in lines if "config.json" not in line]
    assert warning.startswith("warning: The expert 'a' is stored in bfloat16")
    zeros = (pretrained.float() + small).bfloat16() == pretrained.bfloat16()
    assert f"about {100 * float(zeros.float().mean()):.0f} %" in warning
    recipe = write_recipe(method="average")
    assert run("merge", recipe, models / "average") == 0
    assert "bfloat16" not in capsys.readouterr().err  # it has no task vectors


def test_progress_is_shown_on_a_terminal(models, write_recipe):
    reader, writer = os.openpty()
    script = "import sys; from mergegrid.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, "merge", write_recipe(), models / "out"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
        check=False,
    )
    os.close(writer)
    shown = b""
    try:
        while chunk := os.read(reader, 1000):
            shown += chunk
    except OSError:  # the end, on Linux
        pass
    os.close(reader)
    assert done.returncode == 0
    assert b"reads 720 B, writes 60 B in 1 file" in shown
    assert b"first passes over the models" in shown
    assert shown.endswith(b"\r\x1b[K")  # nothing of it stays
