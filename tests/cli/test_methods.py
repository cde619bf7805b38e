"""The command `methods`."""

import json

from mergegrid.methods import METHODS


def test_methods_are_listed_for_people(capsys, run):
    assert run("methods") == 0
    listed = capsys.readouterr().out
    for name, method in METHODS.items():
        assert f"{name}  ({method.title}; needs " in listed
        for option in method.options.model_fields:
            assert f"    {option} = " in listed


def test_methods_come_in_a_table(capsys, run):
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


def test_one_method_is_described_by_itself(capsys, run, failure):
    assert run("methods", "ties") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("ties  (TIES; needs pretrained")
    assert "slerp" not in shown
    assert "no merge method 'tise'" in failure("methods", "tise")


def test_methods_are_listed_for_programs(capsys, run):
    assert run("methods", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [method["name"] for method in listed] == list(METHODS)
    ties = next(method for method in listed if method["name"] == "ties")
    assert ties["needs"] == ["pretrained", "trim"]
    assert ties["options"]["density"]["default"] == 0.2
    one, several = ties["options"]["density"]["anyOf"]  # for all experts, or for each
    assert one["maximum"] == several["items"]["maximum"] == 1
    assert ties["options"]["aggregate"]["enum"] == ["mean", "sum", "max"]
    assert "arXiv:2306.01708" in ties["source"]
    for method in listed:
        assert "operations" in method["flops"], method["name"]
        assert method["flops_per_entry"] > 0
    assert "(4M + 1) dk" in ties["paper_flops"]
    mats = next(method for method in listed if method["name"] == "mats")
    assert mats["needs_if"]["covariance=kfac"] == ["gradient", "gram"]
