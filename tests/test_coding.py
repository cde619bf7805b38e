"""Bits and numbers coded as bytes, and read again."""

import io
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.coding import BitsDecoder, BitsEncoder, NumbersDecoder, NumbersEncoder

seeds = st.integers(0, 2**32 - 1)
cuts = st.lists(st.integers(0, 3000), max_size=5)


def stretches(whole, places):
    edges = [0, *sorted(min(place, len(whole)) for place in places), len(whole)]
    return [whole[a:b] for a, b in itertools.pairwise(edges)]


def coded(encoder, parts):
    written = bytearray()
    coder = encoder(written.extend)
    for part in parts:
        coder.add(part)
    coder.close()
    return bytes(written)


def random_mask(seed, size, density):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, generator=generator) < density


@given(seed=seeds, size=st.integers(0, 3000), places=cuts)
def test_bits_are_read_as_they_were_written_in_any_stretches(seed, size, places):
    mask = random_mask(seed, size, 0.3)
    data = coded(BitsEncoder, stretches(mask, places))
    assert data == coded(BitsEncoder, [mask])
    decoder = BitsDecoder(io.BytesIO(data))
    first = size // 16 * 8
    assert torch.equal(decoder.take(first), mask[:first])
    assert torch.equal(decoder.take(size - first), mask[first:])
    decoder.end()


@given(seed=seeds, size=st.integers(0, 3000), places=cuts)
def test_numbers_are_read_bit_for_bit_in_any_stretches(seed, size, places):
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(-(2**31), 2**31, (size,), generator=generator)
    numbers = bits.int().view(torch.float32)  # of every kind: NaN, -0, denormal
    data = coded(NumbersEncoder, stretches(numbers, places))
    decoder = NumbersDecoder(io.BytesIO(data))
    for part in stretches(numbers, places[:2]):
        assert torch.equal(
            decoder.take(len(part)).view(torch.int32), part.view(torch.int32)
        )
    decoder.end()


@pytest.mark.parametrize("density", [0.1, 0.4, 0.63])
def test_bits_take_what_their_entropy_says(density):
    size = 1_000_000
    data = coded(BitsEncoder, [random_mask(0, size, density)])
    entropy = -sum(p * math.log2(p) for p in (density, 1 - density))
    assert size / 8 * entropy * 0.99 < len(data) < size / 8 * min(entropy * 1.08, 1.01)


def test_numbers_take_less_in_planes_than_as_they_are():
    numbers = torch.randn(1 << 18, generator=torch.Generator().manual_seed(0)) * 1e-3
    whole = numbers.numpy().tobytes()
    data = coded(NumbersEncoder, numbers.split(1000))
    # Signs and exponents of normal numbers have an entropy of about three bits.
    assert len(data) < 0.88 * len(whole)
    assert len(data) > 0.80 * len(whole)


def test_what_is_all_zero_takes_next_to_nothing():
    assert len(coded(BitsEncoder, [torch.zeros(1_000_000).bool()])) < 100
    assert len(coded(NumbersEncoder, [torch.zeros(1_000_000)])) < 500


@pytest.mark.parametrize(
    ("encoder", "decoder", "whole"),
    [
        (BitsEncoder, BitsDecoder, random_mask(0, 80_000, 0.5)),
        (NumbersEncoder, NumbersDecoder, torch.arange(5000.0)),
    ],
)
def test_damage_is_noticed_wherever_it_is(encoder, decoder, whole):
    data = coded(encoder, [whole])

    def read(damaged):
        reading = decoder(io.BytesIO(bytes(damaged)))
        reading.take(len(whole))
        reading.end()

    read(data)
    for place in np.linspace(0, len(data) - 1, 23).astype(int):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(ValueError):  # noqa: PT011 - of either kind
            read(changed)
    for size in (0, 5, len(data) // 2):
        with pytest.raises(ValueError):  # noqa: PT011
            read(data[:size])
    more = coded(encoder, [torch.cat([whole, whole[:100]])])
    with pytest.raises(ValueError, match="more"):
        read(more)
