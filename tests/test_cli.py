"""The command line, on models that are written and read as files."""

import json
import os
import resource
import signal
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


def test_methods_come_in_a_table(capsys):
    assert run("methods") == 0
    table = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert table[0].split() == [
        "name", "method", "needs", "covers", "experts", "models", "FLOPs",
    ]  # fmt: skip
    rows = {row.split()[0]: row for row in table[1:]}
    assert list(rows) == list(METHODS)
    assert rows["slerp"].split() == ["slerp", "SLERP", "-", "all", "2", "one", "9"]
    assert "gram, pretrained" in rows["mats"]
    assert "per task" in rows["emr"]


def test_one_method_is_described_by_itself(capsys):
    assert run("methods", "ties") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("ties  (TIES; needs pretrained")
    assert "slerp" not in shown
    assert "no merge method 'tise'" in failure(capsys, "methods", "tise")


def test_methods_are_listed_for_programs(capsys):
    assert run("methods", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [method["name"] for method in listed] == list(METHODS)
    ties = next(method for method in listed if method["name"] == "ties")
    assert ties["needs"] == ["pretrained", "trim"]
    assert ties["options"]["density"]["default"] == 0.2
    assert ties["options"]["density"]["maximum"] == 1
    assert ties["options"]["aggregate"]["enum"] == ["mean", "sum", "max"]
    assert "arXiv:2306.01708" in ties["source"]
    for method in listed:
        assert "operations" in method["flops"], method["name"]
        assert method["flops_per_entry"] > 0
    assert "(4M + 1) dk" in ties["paper_flops"]
    mats = next(method for method in listed if method["name"] == "mats")
    assert mats["needs_if"]["covariance=kfac"] == ["gradient", "gram"]


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


def test_tied_tensors_are_shown(models, capsys):
    weight = MODELS["a"]["fc.weight"]
    spoil(models, "a", **{"head.weight": weight.clone()})
    assert run("inspect", models / "a") == 0
    assert "tied: fc.weight = head.weight" in capsys.readouterr().out


def test_two_models_are_compared(models, capsys):
    assert run("inspect", models / "a", models / "a") == 0
    assert capsys.readouterr().out == "No tensor differs, of 2.\n"
    weight = MODELS["a"]["fc.weight"].clone()
    weight[0, 0] += 2
    spoil(
        models,
        "b",
        **{
            "fc.weight": weight,
            "fc.bias": MODELS["a"]["fc.bias"].double(),
            "extra": torch.zeros(1),
            "nan": torch.tensor([torch.nan, torch.nan, 2.0]),
        },
    )
    spoil(
        models,
        "a",
        nan=torch.tensor([torch.nan, 1.0, torch.nan]),
        wide=torch.zeros(2, 2),
    )
    assert run("inspect", models / "a", models / "b") == 0
    relative = float(2 / MODELS["a"]["fc.weight"].norm())
    assert capsys.readouterr().out.splitlines() == [
        "extra  is in the second alone",
        "fc.bias  float32 against float64; equal values",
        f"fc.weight  1 of 12 entries differ, by 2 at most; relative L2 distance "
        f"{relative:.3g}",
        "nan  2 of 3 entries differ, by 0 at most; relative L2 distance nan",
        "wide  is in the first alone",
        "config.json differs in model",
        "5 of 5 tensors differ.",
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "recipes").glob("*.yaml")))
def test_the_recipes_that_come_along_are_valid(path):
    file = RecipeFile.model_validate(yaml.safe_load(path.read_text()))
    assert read_recipe({"method": file.method, "options": file.options})


# What a merged directory holds


def test_code_weights_and_the_old_card_are_not_copied(models):
    kept = ("LICENSE", "tokenizer.json", "tokenizer.model", "chat_template.jinja")
    left = (
        "README.md", "modeling.py", "optimizer.pt", "tf_model.h5", "trainer_state.json",
        "model.onnx", "flax_model.msgpack", "pytorch_model.bin.index.json",
    )  # fmt: skip
    for name in (*kept, *left):
        (models / "pretrained" / name).write_text("from the pretrained model")
    (models / "pretrained" / "deep").mkdir()
    run("merge", write_recipe(models), models / "out")
    assert {path.name for path in (models / "out").iterdir()} == {
        *kept, "README.md", "config.json", "merge.json", "model.safetensors",
        "tokenizer.txt",
    }  # fmt: skip
    assert "from the pretrained" not in (models / "out" / "README.md").read_text()


def test_companions_come_from_a_model_that_has_a_configuration(models):
    (models / "pretrained" / "config.json").unlink()
    run("merge", write_recipe(models), models / "out")
    assert json.loads((models / "out" / "config.json").read_text()) == {"model": "a"}


def test_a_configuration_is_copied_to_the_letter_unless_the_type_changes(models):
    written = '{"dtype":   "float32",\n "name": "caf\u00e9"}'
    (models / "pretrained" / "config.json").write_text(written, encoding="utf-8")
    run("merge", write_recipe(models), models / "out")
    assert (models / "out" / "config.json").read_text(encoding="utf-8") == written
    recipe = write_recipe(models, output_dtype="float32")
    run("merge", recipe, models / "out", "--force")
    assert (models / "out" / "config.json").read_text(encoding="utf-8") == written
    recipe = write_recipe(models, output_dtype="bfloat16")
    run("merge", recipe, models / "out", "--force")
    changed = (models / "out" / "config.json").read_text(encoding="utf-8")
    assert json.loads(changed) == {"dtype": "bfloat16", "name": "caf\u00e9"}
    assert "caf\u00e9" in changed
    merged = load_file(models / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}


def test_a_configuration_that_is_damaged_is_one_line(models, capsys):
    (models / "a" / "config.json").write_text("{")
    message = failure(capsys, "merge", write_recipe(models), models / "out")
    assert "a/config.json is no configuration of a model" in message


def test_the_card_says_what_went_in(models):
    recipe = write_recipe(models, seed=5)
    recipe.write_text(f"# A comment with ``` in it\n{recipe.read_text()}")
    run("merge", recipe, models / "out")
    card = (models / "out" / "README.md").read_text()
    front, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(front) == {
        "library_name": "safetensors",
        "tags": ["merge", "mergegrid"],
    }
    report = json.loads((models / "out" / "merge.json").read_text())
    for part in (
        "# a and b, merged",
        "| `density` | 0.2 |",
        "| `seed` | 5 |",
        f"| expert b | b | model.safetensors | SHA-256 "
        f"{report['experts']['b']['sha256']['model.safetensors']} |",
        "* torch ",
        f"````yaml\n{recipe.read_text().rstrip()}\n````",
    ):
        assert part in text, part
    assert report["file"] == recipe.read_text()
    assert str(models) not in card


def test_large_models_are_written_in_shards(models):
    run("merge", write_recipe(models, max_shard_size="48 B"), models / "out")
    index = json.loads((models / "out" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) == 2
    merged = {}
    for name in set(index["weight_map"].values()):
        merged |= load_file(models / "out" / name)
    experts = {name: MODELS[name] for name in "ab"}
    expected = merge(experts, "ties", MODELS["pretrained"])
    torch.testing.assert_close(merged, dict(expected), rtol=0, atol=0)
    # and read again
    recipe = write_recipe(models, experts={"a": "out", "b": "b"})
    assert run("merge", recipe, models / "again") == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_shard_size": "5 apples"}, "'5 apples' is no size"),
        ({"dtype": "bfloat16"}, "dtype: input should be 'float32'"),
        ({"output_dtype": "int8"}, "output_dtype: input should be 'float32'"),
        ({"device": "tpu"}, "device: input should be 'cpu' or 'cuda'"),
        ({"vocabulary": "pad"}, "vocabulary: input should be 'refuse' or 'intersect'"),
        ({"task": "c"}, "no expert 'c'"),
        ({"task": "a"}, "ties yields one model for all tasks"),
        ({"statistics": {"fisher": {"x": "f"}}}, "no expert 'x'"),
    ],
)
def test_settings_that_are_not_possible_are_one_line(models, capsys, changes, message):
    recipe = write_recipe(models, **changes)
    assert message.lower() in failure(capsys, "merge", recipe, models / "out").lower()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_one_line(models, capsys):
    recipe = write_recipe(models, device="cuda")
    assert "no CUDA device" in failure(capsys, "merge", recipe, models / "out")


def test_vocabularies_are_merged_where_the_recipe_says_so(models, capsys):
    wide = torch.cat([MODELS["b"]["fc.weight"], torch.ones(2, 4)])
    spoil(models, "b", **{"fc.weight": wide})
    message = failure(capsys, "merge", write_recipe(models), models / "out")
    assert "vocabulary: intersect" in message
    recipe = write_recipe(models, vocabulary="intersect")
    assert run("merge", recipe, models / "out") == 0
    experts = {name: MODELS[name] for name in "ab"}
    assert_merged(models / "out", merge(experts, "ties", MODELS["pretrained"]))


def test_given_signs_and_gradients_are_read_from_files(models):
    signs = {name: t.sign() for name, t in MODELS["a"].items()}
    save_file(signs, models / "signs.safetensors")
    recipe = write_recipe(
        models,
        options={"election": "given"},
        statistics={"signs": "signs.safetensors"},
    )
    assert run("merge", recipe, models / "out") == 0
    experts = {name: MODELS[name] for name in "ab"}
    chosen = {"method": "ties", "options": {"election": "given"}}
    statistics = {Need.SIGNS: {"any": signs}}
    assert_merged(
        models / "out", merge(experts, chosen, MODELS["pretrained"], statistics)
    )
    report = json.loads((models / "out" / "merge.json").read_text())
    assert report["statistics"]["signs"]["signs"]["path"] == "signs.safetensors"

    measured = {Need.GRAM: {}, Need.GRADIENT: {}}
    for name in "ab":
        weight = MODELS[name]["fc.weight"]
        measured[Need.GRAM][name] = {"fc.weight": weight.mT @ weight}
        measured[Need.GRADIENT][name] = {"fc.weight": weight @ weight.mT}
    for need, of_experts in measured.items():
        for name, tensors in of_experts.items():
            save_file(tensors, models / f"{need}-{name}.safetensors")
    recipe = write_recipe(
        models,
        method="mats",
        options={"covariance": "kfac"},
        statistics={
            need.value: {name: f"{need}-{name}.safetensors" for name in "ab"}
            for need in measured
        },
    )
    assert run("merge", recipe, models / "kfac") == 0
    chosen = {"method": "mats", "options": {"covariance": "kfac"}}
    assert_merged(
        models / "kfac", merge(experts, chosen, MODELS["pretrained"], measured)
    )


# A model for each task


def test_without_a_task_there_is_a_directory_for_each(models, capsys):
    recipe = write_recipe(models, method="emr")
    assert run("merge", recipe, models / "out") == 0
    assert sorted(path.name for path in (models / "out").iterdir()) == ["a", "b"]
    experts = {name: MODELS[name] for name in "ab"}
    for task in "ab":
        expected = merge(experts, "emr", MODELS["pretrained"], task=task)
        assert_merged(models / "out" / task, expected)
        assert (models / "out" / task / "config.json").is_file()
        report = json.loads((models / "out" / task / "merge.json").read_text())
        assert report["task"] == task
        card = (models / "out" / task / "README.md").read_text()
        assert f"for the task of expert `{task}`" in card
    capsys.readouterr()
    run("inspect", models / "out" / "b")
    assert "for the task of expert b" in capsys.readouterr().out


def test_with_a_task_its_model_is_written(models):
    recipe = write_recipe(models, method="tall_masks", task="b")
    assert run("merge", recipe, models / "out") == 0
    experts = {name: MODELS[name] for name in "ab"}
    expected = merge(experts, "tall_masks", MODELS["pretrained"], task="b")
    assert_merged(models / "out", expected)


@pytest.mark.parametrize("name", ["x/y", "..", ".x", " x"])
def test_names_that_are_no_directories_are_refused_where_they_would_be(
    models, capsys, name
):
    experts = {name: "a", "b": "b"}
    recipe = write_recipe(models, method="emr", experts=experts)
    message = failure(capsys, "merge", recipe, models / "out")
    assert f"{name!r} will not do for the directory" in message
    recipe = write_recipe(models, method="emr", experts=experts, task="b")
    assert run("merge", recipe, models / "out") == 0


# mergekit's files

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


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_file_of_mergekits_is_merged_as_it_is(models, capsys, monkeypatch, elsewhere):
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
            {expert: {name: MODELS[expert][name]} for expert in "ab"},
            {"method": "ties", "options": options},
            {name: MODELS["pretrained"][name]},
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


def test_without_a_type_a_file_of_mergekits_gets_the_widest(models, monkeypatch):
    spoil(models, "a", **{name: t.half() for name, t in MODELS["a"].items()})
    spoil(models, "b", **{name: t.bfloat16() for name, t in MODELS["b"].items()})
    (models / "mergekit.yml").write_text(
        "{merge_method: linear, models: [{model: a, parameters: {weight: 1}}, "
        "{model: b, parameters: {weight: 1}}]}"
    )
    monkeypatch.chdir(models)
    assert run("merge", "mergekit.yml", "out") == 0
    merged = load_file(models / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in merged.values()} == {torch.float32}


# Before, instead and afterwards


def test_a_dry_run_says_what_would_be_and_writes_nothing(models, capsys):
    recipe = write_recipe(models)
    before = sorted(models.rglob("*"))
    assert run("merge", recipe, models / "out", "--dry-run") == 0
    with_out = capsys.readouterr()
    assert run("merge", "--dry-run", recipe) == 0
    assert capsys.readouterr() == with_out
    assert with_out.err == ""
    assert "copied            config.json, tokenizer.txt\n" in with_out.out
    assert sorted(models.rglob("*")) == before


def test_a_dry_run_lists_all_faults(models, capsys):
    spoil(models, "a", extra=torch.zeros(1))
    spoil(models, "b", **{"fc.bias": torch.zeros(9)})
    assert run("merge", "--dry-run", write_recipe(models)) == 2
    output = capsys.readouterr()
    faults = [line for line in output.out.splitlines() if line.startswith("fault")]
    assert len(faults) == 3
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1


def test_a_merge_needs_a_place(models, capsys):
    assert "Say where to" in failure(capsys, "merge", write_recipe(models))


def test_force_replaces_a_directory(models):
    out = models / "out"
    run("merge", write_recipe(models), out)
    (out / "old").write_text("old")
    recipe = write_recipe(models, method="average")
    assert run("merge", recipe, out, "--force") == 0
    assert not (out / "old").exists()
    assert json.loads((out / "merge.json").read_text())["recipe"]["method"] == "average"


def test_force_leaves_what_is_there_if_the_merge_fails(models, capsys):
    out = models / "out"
    run("merge", write_recipe(models), out)
    before = {path: path.read_bytes() for path in sorted(out.iterdir())}
    spoil(models, "b", **{"fc.bias": torch.tensor([0, torch.nan, 0])})
    capsys.readouterr()
    failure(capsys, "merge", write_recipe(models), out, "--force")
    assert {path: path.read_bytes() for path in sorted(out.iterdir())} == before
    assert not [path for path in models.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("out", ["a", "."])
def test_force_never_takes_what_is_merged(models, capsys, out):
    recipe = write_recipe(models)
    before = sorted(models.rglob("*"))
    message = failure(capsys, "merge", recipe, models / out, "--force")
    assert "cannot be replaced" in message
    assert sorted(models.rglob("*")) == before


def test_a_configuration_that_differs_is_a_warning(models, capsys):
    run("merge", write_recipe(models), models / "out")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("warning: The config.json of the") for line in lines)


@pytest.mark.parametrize("base_too", [True, False])
def test_task_vectors_that_rounding_has_eaten_are_a_warning(models, capsys, base_too):
    large = torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
    small = 1e-4 * large.flip(0)
    pretrained = large.bfloat16() if base_too else large
    spoil(models, "pretrained", **{"fc.weight": pretrained})
    spoil(models, "a", **{"fc.weight": (pretrained.float() + small).bfloat16()})
    spoil(models, "b", **{"fc.weight": pretrained.float() + small})
    spoil(models, "pretrained", **{"fc.weight": pretrained})
    assert run("merge", write_recipe(models), models / "out") == 0
    lines = capsys.readouterr().err.splitlines()
    (warning,) = [line for line in lines if "config.json" not in line]
    assert warning.startswith("warning: The expert 'a' is stored in bfloat16")
    zeros = (pretrained.float() + small).bfloat16() == pretrained.bfloat16()
    assert f"about {100 * float(zeros.float().mean()):.0f} %" in warning
    recipe = write_recipe(models, method="average")
    assert run("merge", recipe, models / "average") == 0
    assert "bfloat16" not in capsys.readouterr().err  # it has no task vectors


def test_progress_is_shown_on_a_terminal(models):
    reader, writer = os.openpty()
    script = "import sys; from mergegrid.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, "merge", write_recipe(models), models / "out"],
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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_interrupted_leaves_nothing(models, number):
    # It stops in the middle of the merge, where it waits for ever.
    script = """
import sys, time
from mergegrid import merging
from mergegrid.cli import main
def stream(*arguments, **options):
    print("now", flush=True)
    time.sleep(60)
merging.stream = stream
sys.exit(main(sys.argv[1:]))
"""
    recipe = write_recipe(models)
    before = sorted(models.iterdir())
    with subprocess.Popen(
        [sys.executable, "-c", script, "merge", recipe, models / "out"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout.readline() == "now\n"
        assert len(sorted(models.iterdir())) == len(before) + 1
        child.send_signal(number)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert said == "interrupted; nothing was written\n"
    assert sorted(models.iterdir()) == before
