"""What is applied last, against NumPy in float64: scales, depth and norms.

Task vectors are merged by NumPy too, so that nothing of the library is in a reference.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergegrid import merge, sweep
from mergegrid.methods import METHODS

seeds = st.integers(0, 2**32 - 1)
numbers = st.sampled_from([-1.0, 0.0, 0.3, 1.0, 2.5])
SHAPES = {
    "embed.weight": (6, 4),
    "layers.0.fc.weight": (4, 5),
    "layers.1.fc.weight": (4, 5),
    "layers.2.fc.weight": (4, 5),
    "layers.2.fc.bias": (4,),
    "norm.weight": (4,),
    "temperature": (),
}
DEPTH = {"layers.0.fc.weight": 0.0, "layers.1.fc.weight": 0.5}
DEPTH |= {"layers.2.fc.weight": 1.0, "layers.2.fc.bias": 1.0}
EXPERTS = ("a", "b", "c")


def problem(seed):
    generator = torch.Generator().manual_seed(seed)

    def model(scale):
        return {
            name: scale * torch.randn(shape, generator=generator)
            for name, shape in SHAPES.items()
        }

    pretrained = model(1.0)
    experts = {
        expert: {name: pretrained[name] + change for name, change in model(0.1).items()}
        for expert in EXPERTS
    }
    return experts, pretrained


def task_vectors(experts, pretrained):
    """Differences in float32, as the library takes them, each parameter flat."""
    return {
        name: np.array(
            [
                (e[name] - pretrained[name]).double().numpy().ravel()
                for e in experts.values()
            ]
        )
        for name in SHAPES
    }


def added(vectors):
    return {name: vector.sum(axis=0) for name, vector in vectors.items()}


def agreeing(vectors):
    """TIES that trims nothing: the mean of the entries with the sign of the sum."""
    merged = {}
    for name, vector in vectors.items():
        signs = np.sign(vector.sum(axis=0))
        agrees = np.sign(vector) == signs
        merged[name] = (vector * agrees).sum(axis=0) / agrees.sum(axis=0)
    return merged


def masked(vectors, task):
    """TALL-masks: of the sum, what is at least 0.4 times that of all others."""
    merged = {}
    for name, vector in vectors.items():
        total = vector.sum(axis=0)
        own = vector[EXPERTS.index(task)]
        merged[name] = np.where(np.abs(own) >= 0.4 * np.abs(total - own), total, 0)
    return merged


def length(vectors):
    return sum(np.abs(vector).sum() for vector in vectors.values())


def finished(merged, vectors, pretrained, scale, beta, layer_scales, *, match_norm):
    """LiNeS: alpha outside the layers, alpha + beta l / (L - 1) in layer l of L."""
    alpha = scale
    if match_norm:
        alpha *= length(added(vectors)) / (len(EXPERTS) * length(merged))
    model = {}
    for name, change in merged.items():
        factor = alpha
        if name in DEPTH:
            factor = alpha + beta * DEPTH[name]
            at = np.linspace(0, 1, len(layer_scales))
            factor *= np.interp(DEPTH[name], at, layer_scales)
        model[name] = pretrained[name].double().numpy().ravel() + factor * change
    return model


def assert_near(found, expected):
    for name, value in expected.items():
        distance = np.linalg.norm(found[name].double().numpy().ravel() - value)
        assert distance < 1e-6 * np.linalg.norm(value), name


METHODS_BY_HAND = {
    "task_arithmetic": ({}, added),
    "ties": ({"density": 1.0}, agreeing),
}


@pytest.mark.parametrize("match_norm", [False, True])
@pytest.mark.parametrize("method", METHODS_BY_HAND)
@settings(max_examples=10)
@given(
    seed=seeds,
    scale=numbers,
    beta=numbers,
    layer_scales=st.sampled_from([None, (0.5,), (0.5, 2.0), (1.0, -1.0, 3.0, 0.0)]),
)
def test_scale_depth_and_norm_are_those_of_lines(
    method, match_norm, seed, scale, beta, layer_scales
):
    experts, pretrained = problem(seed)
    options, by_hand = METHODS_BY_HAND[method]
    chosen = {
        **options,
        "scale": scale,
        "depth_scale": beta,
        "layer_scales": layer_scales,
        "match_norm": match_norm,
    }
    found = merge(experts, {"method": method, "options": chosen}, pretrained)
    vectors = task_vectors(experts, pretrained)
    spread = (layer_scales or (1.0,)) * (2 if len(layer_scales or (1.0,)) == 1 else 1)
    expected = finished(
        by_hand(vectors),
        vectors,
        pretrained,
        scale,
        beta,
        spread,
        match_norm=match_norm,
    )
    assert_near(found, expected)


@settings(max_examples=5)
@given(seed=seeds, beta=numbers)
def test_every_task_has_a_norm_of_its_own(seed, beta):
    experts, pretrained = problem(seed)
    options = {"match_norm": True, "depth_scale": beta, "scale": 1.0}
    recipe = {"method": "tall_masks", "options": options}
    vectors = task_vectors(experts, pretrained)
    for task in EXPERTS:
        expected = finished(
            masked(vectors, task),
            vectors,
            pretrained,
            scale=1.0,
            beta=beta,
            layer_scales=(1.0, 1.0),
            match_norm=True,
        )
        assert_near(merge(experts, recipe, pretrained, task=task), expected)


def test_norms_are_of_the_experts_that_are_merged():
    experts, pretrained = problem(seed=0)
    recipe = {"method": "ties", "options": {"density": 1.0, "match_norm": True}}
    (made,) = sweep(experts, [recipe], pretrained, subsets=[("a", "c")])
    two = {name: experts[name] for name in ("a", "c")}
    vectors = task_vectors(two, pretrained)
    factor = length(added(vectors)) / (2 * length(agreeing(vectors)))
    for name, change in agreeing(vectors).items():
        moved = made.parameters[name].double().numpy().ravel()
        base = pretrained[name].double().numpy().ravel()
        np.testing.assert_allclose(moved, base + factor * change, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "method", [name for name, method in METHODS.items() if method.scale is not None]
)
def test_every_method_with_a_scale_is_finished_alike(method):
    experts, pretrained = problem(seed=1)
    experts = dict(list(experts.items())[: METHODS[method].experts[1]])
    task = "a" if METHODS[method].per_task else None

    def merged(**options):
        recipe = {"method": method, "options": options}
        return merge(experts, recipe, pretrained, task=task)

    once = merged(scale=1.0)
    found = merged(scale=0.5, depth_scale=0.75, layer_scales=(1.0, 2.0, 4.0))
    factors = {0.0: 0.5, 0.5: 2 * (0.5 + 0.375), 1.0: 4 * 1.25}
    for name, tensor in found.items():
        change = once[name] - pretrained[name]
        factor = factors[DEPTH[name]] if name in DEPTH else 0.5
        torch.testing.assert_close(
            tensor, pretrained[name] + factor * change, rtol=1e-4, atol=1e-5
        )


def test_nothing_to_bring_to_a_norm_stays_nothing():
    _, pretrained = problem(seed=0)
    options = {"match_norm": True, "depth_scale": 1.0}
    recipe = {"method": "task_arithmetic", "options": options}
    found = merge([pretrained, pretrained], recipe, pretrained)
    torch.testing.assert_close(found, dict(pretrained), rtol=0, atol=0)


def test_without_depth_lines_is_task_arithmetic():
    experts, pretrained = problem(seed=2)
    plain = merge(
        experts, {"method": "task_arithmetic", "options": {"scale": 1 / 3}}, pretrained
    )
    options = {"scale": 1.0, "match_norm": True}
    matched = merge(
        experts, {"method": "task_arithmetic", "options": options}, pretrained
    )
    torch.testing.assert_close(matched, plain)
