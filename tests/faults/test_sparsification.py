"""Faults of other tools in dropping and trimming; each test is named after one.

They were seen in the authors' code of TIES, in MergeLM, mergekit, git-theta and the
code of the Realistic Evaluation paper.
"""

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergegrid import merge
from mergegrid.cli import main
from mergegrid.errors import InputError
from mergegrid.statistics.trim import trim_thresholds


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def merged(task_vectors, method, *, seed=0, **options):
    """Merge task vectors on a pretrained model of zeros: the merged task vector."""
    pretrained = {"w": torch.zeros_like(task_vectors[0])}
    experts = {f"e{i}": {"w": vector} for i, vector in enumerate(task_vectors)}
    recipe = {"method": method, "options": {"scale": 1.0, **options}}
    return merge(experts, recipe, pretrained, seed=seed)["w"]


# DARE


@pytest.mark.parametrize("drop_rate", [0.1, 0.9])
def test_dare_probability_inverted(drop_rate):
    kept = (merged([normal(10_000)], "dare", drop_rate=drop_rate) != 0).double().mean()
    assert kept == pytest.approx(1 - drop_rate, abs=0.02)


@pytest.mark.parametrize("method", ["dare", "dare_ties"])
def test_dare_rescale_discarded(method):
    vector = normal(1000)
    options = {"density": 1.0} if method == "dare_ties" else {}
    found = merged([vector], method, drop_rate=0.75, **options)
    kept = found != 0
    torch.testing.assert_close(found[kept], 4 * vector[kept])


def test_dare_rescaled_to_the_norm_by_default():
    vector = normal(1000)
    found = merged([vector], "dare", drop_rate=0.75)
    by_norm = merged([vector], "dare", drop_rate=0.75, rescale="norm")
    assert found.abs().sum() != pytest.approx(float(vector.abs().sum()), rel=1e-3)
    assert by_norm.abs().sum() == pytest.approx(float(vector.abs().sum()), rel=1e-3)


@pytest.mark.parametrize("method", ["dare", "dare_ties", "della"])
def test_draws_from_a_global_state_that_nobody_seeded(method):
    vectors = [normal(1000, seed=seed) for seed in range(2)]
    state = torch.get_rng_state()
    first = merged(vectors, method, drop_rate=0.5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(merged(vectors, method, drop_rate=0.5), first)
    assert not torch.equal(merged(vectors, method, drop_rate=0.5, seed=1), first)


def test_random_selection_from_a_global_state_that_nobody_seeded():
    first = merged([normal(1000)], "ties", selection="random")
    torch.rand(7)
    assert torch.equal(merged([normal(1000)], "ties", selection="random"), first)
    other = merged([normal(1000)], "ties", selection="random", seed=1)
    assert not torch.equal(other, first)


def test_draws_in_the_order_of_the_experts_or_parameters():
    pretrained = {name: torch.zeros(500) for name in "ab"}
    experts = {
        e: {n: normal(500, seed=i + j) for i, n in enumerate("ab")}
        for j, e in enumerate("xy")
    }
    first = merge(experts, "dare", pretrained)
    turned = {
        expert: dict(reversed(parameters.items()))
        for expert, parameters in reversed(experts.items())
    }
    torch.testing.assert_close(merge(turned, "dare", pretrained), first)


def test_one_mask_for_all_experts_and_parameters():
    pretrained = {name: torch.zeros(1000) for name in "ab"}
    expert = {name: torch.ones(1000) for name in "ab"}
    recipe = {"method": "dare", "options": {"drop_rate": 0.5, "scale": 1.0}}

    def kept(name, seed):
        found = merge({name: expert}, recipe, pretrained, seed=seed)
        return [found[parameter] != 0 for parameter in "ab"]

    masks = [*kept("x", 0), *kept("y", 0), *kept("x", 1)]
    for index, mask in enumerate(masks):
        for other in masks[:index]:
            assert (mask == other).double().mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("method", ["dare", "dare_ties", "della"])
def test_a_drop_rate_of_one_divides_by_zero(method):
    with pytest.raises(InputError, match=f"{method}: drop_rate = 1.0 is not possible"):
        merged([normal(5)], method, drop_rate=1.0)


def test_dare_ties_trims_before_it_drops():
    # Trimmed first, a fifth of 1,000 entries would be thinned to a tenth.
    found = merged([normal(1000)], "dare_ties", drop_rate=0.5, density=0.2)
    assert int(found.count_nonzero()) == 200


# TIES


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5])
def test_trimming_keeps_one_entry_more_than_k(density):
    found = merged([normal(1000)], "ties", density=density)
    assert int(found.count_nonzero()) == 1000 * density


def test_trimming_keeps_everything_that_equals_the_last_entry():
    quantized = (4 * normal(1000)).round() / 4 + 1 / 8  # few magnitudes, none of them 0
    assert int(merged([quantized], "ties").count_nonzero()) == 200
    threshold = merged([quantized], "ties", selection="threshold")
    assert int(threshold.count_nonzero()) > 200  # as the authors' code, if it is asked


def test_trimming_at_a_density_of_one_fails():
    vector = normal(100)
    assert torch.equal(merged([vector], "ties", density=1.0), vector)
    assert int(trim_thresholds({"w": vector}, [1.0])[1.0].ties_kept["w"]) == 1


@pytest.mark.parametrize("density", [20, 100, 1.5])
def test_density_read_as_a_percentage(density):
    with pytest.raises(InputError, match=r"ties: density = .*fraction"):
        merged([normal(100)], "ties", density=density)


def test_density_of_zero_refused_without_a_reason():
    with pytest.raises(InputError, match=r"density = 0\.0 is not possible: .* than 0"):
        merged([normal(100)], "ties", density=0.0)


def test_trimming_keeps_the_smallest_entries():
    vector = torch.arange(1.0, 11.0)
    found = merged([vector], "ties", density=0.3)
    assert found.tolist() == [0, 0, 0, 0, 0, 0, 0, 8, 9, 10]


def test_trimming_of_each_tensor_instead_of_the_model():
    pretrained = {"large": torch.zeros(10), "small": torch.zeros(10)}
    expert = {"large": torch.full((10,), 2.0), "small": torch.full((10,), 1.0)}
    recipe = {"method": "ties", "options": {"density": 0.5}}
    found = merge([expert], recipe, pretrained)
    assert [int(found[name].count_nonzero()) for name in pretrained] == [10, 0]
    recipe["options"]["scope"] = "tensor"
    found = merge([expert], recipe, pretrained)
    assert [int(found[name].count_nonzero()) for name in pretrained] == [5, 5]


TIED = ("decoder.embed.weight", "encoder.embed.weight", "shared.weight")


def tied_model(embedding, layer):
    return {"layer.weight": layer, **dict.fromkeys(TIED, embedding)}


def tied_problem():
    pretrained = normal(6, 5), normal(6, 5, seed=1)
    experts = [
        (
            pretrained[0] + normal(6, 5, seed=seed),
            pretrained[1] + normal(6, 5, seed=-seed),
        )
        for seed in (2, 3)
    ]
    return experts, pretrained


def assert_counted_once(found, experts, pretrained):
    """Check that the table under three names counts as it does under one."""
    once = merge(
        [{"layer.weight": layer, TIED[0]: table} for table, layer in experts],
        {"method": "ties", "options": {"density": 0.3}},
        {"layer.weight": pretrained[1], TIED[0]: pretrained[0]},
    )
    assert found.keys() == {"layer.weight", *TIED}
    for name in found:
        assert torch.equal(found[name], once.get(name, once[TIED[0]])), name


def test_tied_tensor_counted_twice_in_a_global_trim():
    experts, pretrained = tied_problem()
    models = [tied_model(*expert) for expert in experts]
    recipe = {"method": "ties", "options": {"density": 0.3}}
    found = merge(models, recipe, tied_model(*pretrained))
    assert_counted_once(found, experts, pretrained)


def test_tied_tensor_written_twice_counted_twice_in_a_global_trim(tmp_path):
    experts, pretrained = tied_problem()
    models = {"p": pretrained, "a": experts[0], "b": experts[1]}
    for name, tensors in models.items():
        (tmp_path / name).mkdir()
        separate = {key: t.clone() for key, t in tied_model(*tensors).items()}
        save_file(separate, tmp_path / name / "model.safetensors")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "{method: ties, options: {density: 0.3}, pretrained: p, experts: {a: a, b: b}}"
    )
    assert main(["merge", str(recipe), str(tmp_path / "out")]) == 0
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert_counted_once(stored, experts, pretrained)


# Breadcrumbs


@pytest.mark.parametrize("outliers", [0.0, 0.001])
def test_breadcrumbs_slice_empty_when_the_outliers_round_to_zero(outliers):
    row = torch.tensor([1.0, 2.0, 3.0, 4.0])
    found = merged([row], "breadcrumbs", keep=0.5, outliers=outliers)
    assert found.tolist() == [0, 0, 3, 4]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 2)])
def test_breadcrumbs_slice_empty_when_what_is_kept_rounds_to_zero(shape):
    vector = 1 + normal(*shape).abs()
    found = merged([vector], "breadcrumbs", keep=0.01, outliers=0.01)
    rows = found.reshape(1, -1) if len(shape) < 2 else found
    assert ((rows != 0).sum(dim=-1) == 1).all()
