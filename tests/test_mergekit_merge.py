"""Merges by mergekit's files against what mergekit computes, written out in float64."""

import math

import numpy as np
import pytest
import torch
import yaml

from mergegrid import merge
from mergegrid.mergekit_recipe import make_merge

SHAPES = {
    "model.embed_tokens.weight": (6, 5),
    "model.layers.0.self_attn.q_proj.weight": (4, 5),
    "model.layers.0.mlp.gate_proj.weight": (7, 5),
    "model.layers.1.self_attn.q_proj.weight": (4, 5),
    "model.layers.1.mlp.gate_proj.weight": (7, 5),
    "model.norm.weight": (3,),
    "logit_scale": (),
}
EXPERTS = ("one", "two", "three")

# What each model's parameters are for attention, for layers of 0 and 1, else 0.
WEIGHTS = {"one": 1.0, "two": -0.5, "three": 0.7}
DENSITY = {"one": (0.9, 0.3), "two": (0.5, 0.5), "three": (0.1, 1.0)}
GAMMA = {"one": 0.2, "two": 0.0, "three": 0.6}

MODELS = "models:\n" + "\n".join(
    f"  - model: {name}\n    parameters:\n      weight: {WEIGHTS[name]}\n"
    f"      density: [{{filter: attn, value: {[*DENSITY[name]]}}}, {{value: 0.4}}]\n"
    f"      gamma: {GAMMA[name]}"
    for name in EXPERTS
)


def problem():
    generator = torch.Generator().manual_seed(0)
    models = {
        model: {
            name: torch.randn(shape, generator=generator)
            for name, shape in SHAPES.items()
        }
        for model in ("base", *EXPERTS)
    }
    return {name: models[name] for name in EXPERTS}, models["base"]


def merged(text):
    asked = make_merge(yaml.safe_load(text))
    experts, pretrained = problem()
    chosen = {name: experts[name] for name in asked.experts}
    recipes = asked.recipes(SHAPES)
    whole = {}
    for name in SHAPES:
        parts = {expert: {name: model[name]} for expert, model in chosen.items()}
        whole |= merge(parts, recipes[name], {name: pretrained[name]})
    return whole


def density(expert, name):
    if "attn" not in name:
        return 0.4
    return DENSITY[expert][int(name.split(".")[2])]


def largest(vector, count):
    order = np.argsort(-np.abs(vector), kind="stable")
    return np.isin(np.arange(len(vector)), order[:count])


def sparsified(method, expert, name, vector):
    entries = len(vector)
    count = int(density(expert, name) * entries)
    if method == "ties":
        return vector * largest(vector, max(count, 1))
    if method.startswith("breadcrumbs"):
        # At least one stays; mergekit would leave none.
        count = max(count, 1)
        first = min(int(GAMMA[expert] * entries), entries - count)
        return vector * (largest(vector, first + count) & ~largest(vector, first))
    return vector


def by_hand(method, *, normalize, factor):
    experts, pretrained = problem()
    expected = {}
    weights = np.array([WEIGHTS[expert] for expert in EXPERTS])[:, None]
    for name, base in pretrained.items():
        # In float32, as both tools take differences, since ranks turn on the last bit.
        changes = [(experts[e][name] - base).double().numpy().ravel() for e in EXPERTS]
        weighted = weights * [
            sparsified(method, expert, name, change)
            for expert, change in zip(EXPERTS, changes, strict=True)
        ]
        counts = np.ones_like(weighted, dtype=bool)
        if method.endswith("ties"):
            elected = np.where(weighted.sum(axis=0) >= 0, 1, -1)
            counts = np.sign(weighted) == elected
        total = (weights * counts).sum(axis=0)
        divisor = np.where(np.abs(total) < 1e-8, 1, total) if normalize else 1
        change = factor * (weighted * counts).sum(axis=0) / divisor
        expected[name] = base.double().numpy() + change.reshape(base.shape)
    return expected


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    "method", ["task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties"]
)
def test_task_vectors_are_merged_with_numbers_of_each_model(method, normalize):
    text = (
        f"merge_method: {method}\nbase_model: base\n{MODELS}\n"
        f"parameters: {{normalize: {normalize}, lambda: 0.8}}"
    )
    expected = by_hand(method, normalize=normalize, factor=0.8)
    for name, tensor in merged(text).items():
        np.testing.assert_allclose(tensor.numpy(), expected[name], atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_models_are_added_up_or_averaged_with_weights_of_any_sign(normalize):
    text = f"merge_method: linear\n{MODELS}\nparameters: {{normalize: {normalize}}}"
    experts, _ = problem()
    for name, tensor in merged(text).items():
        summed = sum(WEIGHTS[e] * experts[e][name].double() for e in EXPERTS)
        expected = summed / (math.fsum(WEIGHTS.values()) if normalize else 1)
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-5)


def test_one_model_is_passed_through_times_its_scale():
    scale = "[{filter: attn, value: [0, 0.5]}, {filter: norm, value: -2}, {value: 1}]"
    text = (
        f"merge_method: passthrough\n"
        f"models: [{{model: one, parameters: {{scale: {scale}}}}}]"
    )
    experts, _ = problem()
    factors = {
        "model.layers.0.self_attn.q_proj.weight": 0.0,
        "model.layers.1.self_attn.q_proj.weight": 0.5,
        "model.norm.weight": -2.0,
    }
    for name, tensor in merged(text).items():
        assert torch.equal(tensor, factors.get(name, 1.0) * experts["one"][name])


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "della_linear"])
def test_without_rescaling_what_is_left_stays_as_it_is(method):
    model = "{model: one, parameters: {weight: 1, density: 0.5, epsilon: 0.1}}"
    text = f"merge_method: {method}\nbase_model: base\nmodels: [{model}]\nparameters: "
    experts, pretrained = problem()
    left = merged(f"{text}{{rescale: false}}")
    rescaled = merged(f"{text}{{rescale: true}}")
    for name in SHAPES:
        change = experts["one"][name] - pretrained[name]
        kept = left[name] != pretrained[name]
        torch.testing.assert_close(
            left[name], pretrained[name] + change * kept, rtol=0, atol=1e-6
        )
        length = (rescaled[name] - pretrained[name]).abs().sum()
        expected = change.abs().sum() if kept.any() else torch.tensor(0.0)
        torch.testing.assert_close(length, expected, rtol=1e-4, atol=1e-5)
