"""The command `inspect`."""

import pytest
import torch


def test_a_merged_model_can_be_inspected(models, capsys, write_recipe, run):
    run("merge", write_recipe(), models / "out")
    capsys.readouterr()
    assert run("inspect", models / "out") == 0
    shown = capsys.readouterr().out
    assert "2 tensors, 15 numbers (15 float32)" in shown
    assert "merged by ties density=0.2" in shown
    assert "expert a: a" in shown
    assert "pretrained: pretrained" in shown
    assert "fc.weight  [3, 4] float32" in shown


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"recipe": 3}'])
def test_a_report_that_is_none_is_one_line(models, text, failure):
    (models / "a" / "merge.json").write_text(text)
    assert "is not the report of a merge" in failure("inspect", models / "a")


def test_a_directory_without_a_model_is_one_line(tmp_path, failure):
    assert "it holds none" in failure("inspect", tmp_path)
    assert "no model at" in failure("inspect", tmp_path / "elsewhere")


def test_tied_tensors_are_shown(models, capsys, parameters, run, spoil):
    weight = parameters["a"]["fc.weight"]
    spoil("a", **{"head.weight": weight.clone()})
    assert run("inspect", models / "a") == 0
    assert "tied: fc.weight = head.weight" in capsys.readouterr().out


def test_two_models_are_compared(models, capsys, parameters, run, spoil):
    assert run("inspect", models / "a", models / "a") == 0
    assert capsys.readouterr().out == "No tensor differs, of 2.\n"
    weight = parameters["a"]["fc.weight"].clone()
    weight[0, 0] += 2
    spoil(
        "b",
        **{
            "fc.weight": weight,
            "fc.bias": parameters["a"]["fc.bias"].double(),
            "extra": torch.zeros(1),
            "nan": torch.tensor([torch.nan, torch.nan, 2.0]),
        },
    )
    spoil(
        "a",
        nan=torch.tensor([torch.nan, 1.0, torch.nan]),
        wide=torch.zeros(2, 2),
    )
    assert run("inspect", models / "a", models / "b") == 0
    relative = float(2 / parameters["a"]["fc.weight"].norm())
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
