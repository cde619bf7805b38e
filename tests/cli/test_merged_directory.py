"""What a merged directory holds besides weights."""

import json
import subprocess

import torch
import yaml
from safetensors.torch import load_file

from mergegrid.methods import METHODS


def test_companions_come_from_the_pretrained_model(models, write_recipe, run):
    run("merge", write_recipe(), models / "out")
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


def test_companions_come_from_the_first_expert_without_a_pretrained_model(
    models, write_recipe, run
):
    recipe = write_recipe(method="average", pretrained=None)
    run("merge", recipe, models / "out")
    assert json.loads((models / "out" / "config.json").read_text()) == {"model": "a"}


def test_companions_come_from_a_model_that_has_a_configuration(
    models, write_recipe, run
):
    (models / "pretrained" / "config.json").unlink()
    run("merge", write_recipe(), models / "out")
    assert json.loads((models / "out" / "config.json").read_text()) == {"model": "a"}


def test_code_weights_and_the_old_card_are_not_copied(models, write_recipe, run):
    kept = ("LICENSE", "tokenizer.json", "tokenizer.model", "chat_template.jinja")
    left = (
        "README.md", "modeling.py", "optimizer.pt", "tf_model.h5", "trainer_state.json",
        "model.onnx", "flax_model.msgpack", "pytorch_model.bin.index.json",
    )  # fmt: skip
    for name in (*kept, *left):
        (models / "pretrained" / name).write_text("from the pretrained model")
    (models / "pretrained" / "deep").mkdir()
    run("merge", write_recipe(), models / "out")
    assert {path.name for path in (models / "out").iterdir()} == {
        *kept, "README.md", "config.json", "merge.json", "model.safetensors",
        "tokenizer.txt",
    }  # fmt: skip
    assert "from the pretrained" not in (models / "out" / "README.md").read_text()


def test_a_configuration_is_copied_to_the_letter_unless_the_type_changes(
    models, write_recipe, run
):
    written = '{"dtype":   "float32",\n "name": "caf\u00e9"}'
    (models / "pretrained" / "config.json").write_text(written, encoding="utf-8")
    run("merge", write_recipe(), models / "out")
    assert (models / "out" / "config.json").read_text(encoding="utf-8") == written
    recipe = write_recipe(output_dtype="float32")
    run("merge", recipe, models / "out", "--force")
    assert (models / "out" / "config.json").read_text(encoding="utf-8") == written
    recipe = write_recipe(output_dtype="bfloat16")
    run("merge", recipe, models / "out", "--force")
    changed = (models / "out" / "config.json").read_text(encoding="utf-8")
    assert json.loads(changed) == {"dtype": "bfloat16", "name": "caf\u00e9"}
    assert "caf\u00e9" in changed
    merged = load_file(models / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}


def test_the_report_says_what_went_in_and_nothing_about_the_machine(
    models, write_recipe, run
):
    run("merge", write_recipe(seed=3), models / "out")
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


def test_the_card_says_what_went_in(models, write_recipe, run):
    recipe = write_recipe(seed=5)
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
