"""What compressed experts take: counted in memory, written, and by the formulas."""

import pytest
import torch
from safetensors.torch import save_file

from mergegrid.bits import part_bits, storage_bits
from mergegrid.compressing import compress_stored
from mergegrid.inputs import open_inputs
from mergegrid.merge_file import read_merge_file
from mergegrid.methods import get_method
from mergegrid.stored_parts import Numbers, measure_parts, numbers_of

TRAINED, FROZEN = 30 * 40 + 7, 11
NOTHING = Numbers(0, 0)
METHODS = {
    "tall_masks": {},
    "magnitude_masking": {"density": 0.2},
    "magnitude_pruning": {"density": 0.25},
    "emr": {},
}


def models():
    generator = torch.Generator().manual_seed(0)

    def model():
        return {
            "weight": torch.randn(30, 40, generator=generator),
            "bias": torch.randn(7, generator=generator),
            "frozen": torch.arange(11.0),
        }

    return model(), {name: model() for name in "abc"}


def measured(method, subset=("a", "b", "c"), beside=NOTHING):
    pretrained, experts = models()
    return measure_parts(
        experts,
        get_method(method).recipe(METHODS[method]),
        pretrained,
        {},
        subset=subset,
        seed=0,
        device=torch.device("cpu"),
        beside=beside,
    )


@pytest.mark.parametrize("method", METHODS)
def test_bits_are_those_of_the_formula_with_what_is_frozen(method):
    parts = measured(method, beside=Numbers(1000, 4000))
    kept = 3 * ((TRAINED + FROZEN) // 4) if method == "magnitude_pruning" else None
    frozen = FROZEN + 1000
    expected = part_bits(TRAINED + frozen, frozen, 3, method, kept)
    assert {part.part: part.bits for part in parts} == expected
    formula = storage_bits(TRAINED + frozen, frozen, 3, method, kept)
    assert sum(part.bits for part in parts) == formula


@pytest.mark.parametrize("method", METHODS)
def test_what_is_counted_in_memory_is_what_is_written(method, tmp_path):
    pretrained, experts = models()
    for name, model in {"pretrained": pretrained, **experts}.items():
        save_file(model, tmp_path / f"{name}.safetensors")
    listed = "".join(f"  {name}: {name}.safetensors\n" for name in experts)
    (tmp_path / "recipe.yaml").write_text(
        f"method: {method}\noptions: {METHODS[method]}\n"
        f"pretrained: pretrained.safetensors\nexperts:\n{listed}"
    )
    inputs = open_inputs(read_merge_file(tmp_path / "recipe.yaml"))
    written = compress_stored(inputs, tmp_path / "out")
    in_memory = {part.part: part for part in measured(method)}
    for part in written.parts:
        assert part.bits == in_memory[part.part].bits
        if part.part != "pretrained":
            assert part.bytes == in_memory[part.part].bytes
    on_disk = sum(
        path.stat().st_size for path in (tmp_path / "out").rglob("*.safetensors")
    )
    coded = [p for p in written.parts if p.part not in {"pretrained", "factors"}]
    plain = (tmp_path / "out" / "plain.safetensors").exists()
    assert on_disk >= sum(part.bytes for part in coded)
    assert plain == (method == "emr")
    if not plain:
        assert on_disk == sum(part.bytes for part in coded)
    assert written.experts.bits == 32 * (3 * TRAINED + FROZEN)


def test_experts_of_the_subset_alone_are_counted():
    sizes = {part.part: part.bits for part in measured("tall_masks", ("c", "a"))}
    assert sizes["masks"] == 2 * TRAINED


def test_tied_numbers_are_counted_once_and_integers_not_at_all():
    weight = torch.zeros(3, 4, dtype=torch.bfloat16)
    model = {"a": weight, "b": weight, "ids": torch.arange(9), "c": torch.zeros(2)}
    assert numbers_of(model) == Numbers(14, 2 * 12 + 4 * 2)
