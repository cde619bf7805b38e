"""Faults of other tools in averaging and adding up; each test is named after one.

They were seen in git-theta, mergekit, task_vectors and the code of the Realistic
Evaluation paper.
"""

import pytest
import torch
from safetensors.torch import save_file

from mergegrid import merge
from mergegrid.cli import main
from mergegrid.errors import InputError, LayoutError, MergegridError


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Weights


@pytest.mark.parametrize(
    ("method", "option"), [("average", "weights"), ("fisher", "coefficients")]
)
def test_zero_sum_weights_divide_by_zero(method, option):
    experts = [{"w": normal(3, seed=seed)} for seed in range(2)]
    statistics = {"fisher": {name: {"w": torch.ones(3)} for name in "01"}}
    recipe = {"method": method, "options": {option: (0.0, 0.0)}}
    with pytest.raises(InputError, match="weights must not"):
        merge(experts, recipe, statistics=statistics)


def test_zero_sum_weights_in_a_file_of_mergekits_divide_by_zero(tmp_path, capsys):
    for seed, name in enumerate("ab"):
        save_file({"w": normal(3, seed=seed)}, tmp_path / f"{name}.safetensors")
    (tmp_path / "mergekit.yml").write_text(
        "{merge_method: linear, dtype: float32, models: ["
        "{model: a.safetensors, parameters: {weight: 1}}, "
        "{model: b.safetensors, parameters: {weight: -1}}]}"
    )
    assert main(["merge", str(tmp_path / "mergekit.yml"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_scale_of_two_experts_read_as_l_and_one_minus_l(scale):
    pretrained = {"w": torch.zeros(2)}
    experts = [{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}]
    recipe = {"method": "task_arithmetic", "options": {"scale": scale}}
    found = merge(experts, recipe, pretrained)["w"]
    assert found.tolist() == pytest.approx([scale, scale])


# Precision


def test_running_average_in_sixteen_bits():
    experts = [{"w": normal(2000, seed=seed).bfloat16()} for seed in range(24)]
    exact = torch.stack([expert["w"].double() for expert in experts]).mean(dim=0)
    found = merge(experts, "average")["w"]
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, exact.float().bfloat16())


@pytest.mark.parametrize("method", ["task_arithmetic", "average"])
def test_intermediate_results_rounded_to_sixteen_bits(method):
    base = normal(2000).bfloat16()
    experts = [
        (base.float() + 0.1 * normal(2000, seed=seed)).bfloat16() for seed in (1, 2, 3)
    ]
    recipe = {"method": method, "options": {}}
    if method == "task_arithmetic":
        recipe["options"] = {"scale": 0.4}
    found = merge([{"w": expert} for expert in experts], recipe, {"w": base})["w"]
    wide = torch.stack([expert.double() for expert in experts])
    exact = {
        "task_arithmetic": base.double() + 0.4 * (wide - base.double()).sum(dim=0),
        "average": wide.mean(dim=0),
    }[method]
    assert torch.equal(found, exact.float().bfloat16())


# What is no parameter


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("method", ["average", "task_arithmetic", "ties"])
def test_integers_averaged(method, dtype):
    ids = torch.tensor([0, 1, 1]).to(dtype)
    pretrained = {"ids": ids, "w": torch.zeros(3)}
    experts = [{"ids": ids.clone(), "w": normal(3, seed=seed)} for seed in range(3)]
    found = merge(experts, method, pretrained)["ids"]
    assert found.dtype == dtype
    assert torch.equal(found, ids)
    experts[1]["ids"] = 1 - ids if dtype != torch.bool else ~ids
    with pytest.raises(LayoutError, match="differ in 'ids'"):
        merge(experts, method, pretrained)


@pytest.mark.parametrize("method", ["average", "mlerp", "task_arithmetic", "ties"])
def test_running_statistics_counted_as_parameters(method):
    pretrained = {"w": normal(3, 4)}
    experts = [{"w": pretrained["w"] + normal(3, 4, seed=seed)} for seed in (1, 2)]
    expected = merge(experts, method, pretrained)["w"]
    for value, expert in enumerate(experts):
        expert["bn.running_mean"] = torch.tensor([100.0 * value, 2.0])
    base = {**pretrained, "bn.running_mean": torch.tensor([5.0, 5.0])}
    found = merge(experts, method, base)
    assert torch.equal(found["w"], expected)
    assert found["bn.running_mean"].tolist() == [50.0, 2.0]


def test_parameters_that_one_model_lacks_passed_over():
    expert = {"w": normal(3), "extra": normal(2)}
    with pytest.raises(LayoutError, match="has a parameter 'extra'"):
        merge([expert, {"w": normal(3)}], "average")
    with pytest.raises(LayoutError, match="has a parameter 'extra'"):
        merge([expert, expert], "task_arithmetic", {"w": normal(3)})


def test_vocabularies_of_different_sizes_cut_without_a_word():
    expert = {"embed.weight": normal(6, 4)}
    with pytest.raises(LayoutError, match="vocabulary: intersect"):
        merge([expert], "ties", {"embed.weight": normal(5, 4)})


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_merged_into_everything(value):
    experts = {name: {"w": normal(3)} for name in "ab"}
    experts["b"]["w"][1] = value
    with pytest.raises(MergegridError, match="expert 'b' has NaN or infinity in its"):
        merge(experts, "average")


# Low-rank changes


def factored(seed):
    return {
        "base.q.lora_A.default.weight": normal(2, 6, seed=seed),
        "base.q.lora_B.default.weight": normal(5, 2, seed=seed + 9),
    }


@pytest.mark.parametrize("method", ["average", "task_arithmetic", "ties"])
def test_lora_factors_averaged_separately(method):
    # (B1 + B2) (A1 + A2) has B1 A2 and B2 A1 in it, which nobody trained.
    experts = {name: factored(seed) for seed, name in enumerate("ab")}
    with pytest.raises(LayoutError, match=r"'a' holds 2 factors .*'base\.q\.lora_A\."):
        merge(experts, method, factored(5))


def test_lora_factors_in_files_averaged_separately(tmp_path, capsys):
    for seed, name in enumerate("ab"):
        save_file(factored(seed), tmp_path / f"{name}.safetensors")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "{method: average, experts: {a: a.safetensors, b: b.safetensors}}"
    )
    for more in ([str(tmp_path / "out")], ["--dry-run"]):
        assert main(["merge", str(recipe), *more]) == 2
        assert "multiply them into the model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
