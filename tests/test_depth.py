"""Layers by their names, and LiNeS' factors along the depth, against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.depth import interpolate, layer_positions, scale_at

numbers = st.floats(-2, 2)


def layers_of(*names):
    return {name: place for name, (place, _) in layer_positions(names).items()}


def test_a_layer_is_the_first_number_in_a_name():
    names = [
        f"visual.blocks.{layer}.mlp.{part}.weight" for layer in "01" for part in "0123"
    ]
    assert layers_of(*names) == {name: int(name[14]) for name in names}


def test_layers_are_in_the_order_of_numbers_and_not_of_letters():
    found = layers_of(*(f"layers.{number}.w" for number in (10, 9, 2, 0, 1)))
    assert found == {f"layers.{n}.w": i for i, n in enumerate((0, 1, 2, 9, 10))}


def test_an_encoder_and_a_decoder_are_stacks_of_their_own():
    encoder = [f"encoder.block.{i}.w" for i in range(2)]
    decoder = [f"decoder.block.{i}.w" for i in range(3)]
    found = layer_positions([*encoder, *decoder])
    assert [found[name] for name in encoder] == [(0, 2), (1, 2)]
    assert [found[name] for name in decoder] == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize(
    "name",
    ["embed.weight", "ln_1.weight", "conv2d.weight", "v2.weight", "only.0.weight"],
)
def test_what_is_in_no_stack_is_outside_the_layers(name):
    assert name not in layer_positions([name, "layers.0.w", "layers.1.w"])


@pytest.mark.parametrize("name", ["0.weight", "blocks.0", "blocks.0.bias"])
def test_numbers_at_either_end_of_a_name_are_layers(name):
    assert layers_of(name, name.replace("0", "1"))[name] == 0


@given(values=st.lists(numbers, min_size=1, max_size=6), layers=st.integers(2, 9))
def test_values_are_spread_over_the_depth_and_joined_by_lines(values, layers):
    depth = np.linspace(0, 1, layers)
    expected = np.interp(depth, np.linspace(0, 1, len(values)), values)
    if len(values) == 1:
        expected = np.full(layers, values[0])
    found = [interpolate(values, (place, layers)) for place in range(layers)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@given(
    scale=numbers,
    depth_scale=numbers,
    norm_factor=st.floats(0, 3),
    values=st.none() | st.lists(numbers, min_size=1, max_size=3),
    layers=st.integers(2, 9),
)
def test_the_factor_is_that_of_lines(scale, depth_scale, norm_factor, values, layers):
    positions = layer_positions(f"layers.{place}.w" for place in range(layers))
    options = {
        "scale": scale,
        "depth_scale": depth_scale,
        "layer_scales": values,
        "norm_factor": norm_factor,
    }
    alpha, beta = norm_factor * scale, depth_scale
    for place in range(layers):
        depth = place / (layers - 1)
        spread = 1.0
        if values:
            at = np.linspace(0, 1, len(values))
            spread = np.interp(depth, at, values) if len(values) > 1 else values[0]
        expected = (alpha + beta * depth) * spread
        found = scale_at(f"layers.{place}.w", positions, **options)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert scale_at("embed", positions, **options) == alpha


def test_layer_scales_may_be_none_or_empty():
    positions = layer_positions(["layers.0.w", "layers.1.w"])
    for nothing in (None, ()):
        options = {"scale": 2.0, "depth_scale": 1.0, "layer_scales": nothing}
        assert scale_at("layers.1.w", positions, **options) == 3.0
