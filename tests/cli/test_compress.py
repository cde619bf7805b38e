"""Experts compressed to files and restored, by `mergegrid compress` and `restore`."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

EXPERTS = ("cars", "flowers", "street signs")
RECIPES = {
    "tall_masks": {},
    "tall_masks, scaled": {
        "method": "tall_masks",
        "options": {"scale": 0.7, "mask_threshold": [0.2, 0.9, 0.5]},
    },
    "tall_masks by ties": {
        "method": "tall_masks",
        "options": {"merge_by": "ties", "comparison": "strict"},
    },
    "tall_masks by depth, norms matched": {
        "method": "tall_masks",
        "options": {"depth_scale": 0.5, "match_norm": True},
    },
    "magnitude_masking": {},
    "magnitude_masking at random": {
        "method": "magnitude_masking",
        "options": {"selection": "random", "density": 0.3, "scale": -1.3},
        "seed": 3,
    },
    "magnitude_pruning": {"options": {"density": [0.1, 0.3, 1.0], "scale": 0.9}},
    "emr": {},
    "emr, tensor by tensor": {"method": "emr", "options": {"scope": "tensor"}},
    "emr, in bfloat16": {"method": "emr", "output_dtype": "bfloat16"},
    "tall_masks, in shards": {"method": "tall_masks", "max_shard_size": 100_000},
}


def tensors(seed, dtype=torch.bfloat16):
    """A model with everything: ties, zeros of either sign, buffers, integers."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    zeros = torch.tensor([0.0, -0.0] * 4, dtype=dtype)
    large = random(301, 401)
    return {
        "layers.0.weight": random(70, 41),
        "layers.1.weight": random(70, 41),
        "embedding": large,
        "head": large.clone(),
        "bias": torch.cat([random(3), zeros]),
        "frozen": torch.cat([torch.arange(5.0).to(dtype), zeros]),
        "temperature": random(),
        "nothing": random(0, 3),
        "norm.running_mean": random(4).float(),
        "norm.num_batches_tracked": torch.tensor(seed),
        "ids": torch.arange(7),
    }


@pytest.fixture
def place(tmp_path):
    """A directory with a pretrained model and three experts around it."""
    pretrained = tensors(0)
    models = {"pretrained": pretrained}
    for seed, name in enumerate(EXPERTS, 1):
        models[name] = tensors(seed)
        kept = torch.arange(70 * 41).view(70, 41) % (seed + 1) == 0
        models[name]["layers.0.weight"][kept] = pretrained["layers.0.weight"][kept]
        # Changes that no mask selects, where the pretrained model has zeros.
        models[name]["bias"][3:] = torch.tensor([1e-4, -1e-4] * 4)
    # Stretches in which an expert's mask selects nothing.
    for tensor in ("embedding", "head"):
        models["cars"][tensor][100:] = pretrained[tensor][100:]
    for name, model in models.items():
        directory = tmp_path / name
        directory.mkdir()
        save_file(model, directory / "model.safetensors")
        (directory / "config.json").write_text('{"dtype": "bfloat16"}')
        (directory / "tokenizer.json").write_text(f'"{name}"')
    return tmp_path


def write(place, **changes):
    recipe = {
        "method": "tall_masks",
        "pretrained": "pretrained",
        "experts": {name: name for name in EXPERTS},
        **changes,
    }
    kept = {key: value for key, value in recipe.items() if value is not None}
    path = place / "recipe.yaml"
    path.write_text(yaml.safe_dump(kept, sort_keys=False))
    return path


@pytest.fixture
def compressed(place, run, capsys):
    assert run("compress", write(place), place / "small") == 0
    capsys.readouterr()
    return place / "small"


def contents(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_restored_is_what_is_merged_byte_for_byte(place, run, name):
    recipe = write(place, **{"method": name, **RECIPES[name]})
    assert run("merge", recipe, place / "merged") == 0
    assert run("compress", recipe, place / "small") == 0
    for expert in EXPERTS:
        assert run("restore", place / "small", expert, place / f"out {expert}") == 0
        assert contents(place / f"out {expert}") == contents(place / "merged" / expert)


@pytest.mark.parametrize("method", ["tall_masks", "magnitude_pruning"])
def test_stretches_of_any_length_restore_the_same(place, run, monkeypatch, method):
    recipe = write(place, method=method, options={"scale": 0.7})
    assert run("merge", recipe, place / "merged") == 0
    monkeypatch.setattr("mergegrid.restoring.ENTRIES", 1013)
    monkeypatch.setattr("mergegrid.coding.NUMBERS_AT_ONCE", 1000)
    monkeypatch.setattr("mergegrid.coding.BYTES_AT_ONCE", 100)
    assert run("compress", recipe, place / "small") == 0
    assert run("restore", place / "small", "cars", place / "out") == 0
    assert contents(place / "out") == contents(place / "merged" / "cars")


def test_one_expert_alone_is_compressed_if_one_is_asked_for(place, run):
    recipe = write(place, task="flowers")
    run("merge", recipe, place / "merged")
    run("compress", recipe, place / "small")
    files = [path.name for path in (place / "small" / "masks").iterdir()]
    assert files == ["flowers.safetensors"]
    assert run("restore", place / "small", "flowers", place / "out") == 0
    assert contents(place / "out") == contents(place / "merged")


def test_models_of_different_numbers_of_rows_are_restored(place, run):
    longer = tensors(0)
    longer["layers.0.weight"] = torch.randn(75, 41).bfloat16()
    save_file(longer, place / "pretrained" / "model.safetensors")
    recipe = write(place, vocabulary="intersect")
    assert run("merge", recipe, place / "merged") == 0
    assert run("compress", recipe, place / "small") == 0
    assert run("restore", place / "small", "cars", place / "out") == 0
    assert contents(place / "out") == contents(place / "merged" / "cars")


def test_everything_is_safetensors_and_json_but_for_the_card(compressed):
    assert set(contents(compressed)) == {
        "README.md",
        "companions/config.json",
        "companions/tokenizer.json",
        "compressed.json",
        *(f"masks/{name}.safetensors" for name in EXPERTS),
        "plain.safetensors",
        "task_vector.safetensors",
    }
    assert json.loads((compressed / "compressed.json").read_text())
    coded = load_file(compressed / "masks" / "cars.safetensors")
    assert {tensor.dtype for tensor in coded.values()} == {torch.uint8}
    assert (
        "mergegrid restore . 'street signs' OUT_DIR"
        in (compressed / "README.md").read_text()
    )


def test_compressing_twice_gives_the_same_bytes(place, compressed, run):
    run("compress", place / "recipe.yaml", place / "again")
    assert contents(place / "again") == contents(compressed)


def test_it_takes_less_than_packed_masks_and_plain_numbers(compressed):
    entries = 2 * 70 * 41 + 301 * 401 + 11 + 13 + 1
    masks = (compressed / "masks" / "cars.safetensors").stat().st_size
    vector = (compressed / "task_vector.safetensors").stat().st_size
    assert masks < entries / 8
    assert vector < 0.9 * 4 * entries


def test_the_table_gives_bytes_as_they_are_and_bits_as_the_paper_counts(
    place, run, capsys
):
    run("compress", write(place), place / "small")
    lines = capsys.readouterr().out.splitlines()
    table = {line[:20].strip(): line[20:].split() for line in lines[1:-1]}
    trained = 2 * 70 * 41 + 301 * 401 + 11 + 1
    masks = sum(path.stat().st_size for path in (place / "small/masks").iterdir())
    assert table["masks"][:2] == [f"{masks / 1000:.3g}", "kB"]
    assert table["masks"][2:] == [f"{3 * trained / 8000:.3g}", "kB"]
    parts = (64 + 3) * trained + 32 * 13
    assert table["together"][2:] == [f"{parts / 8e6:.3g}", "MB"]
    experts = 32 * (3 * trained + 13)
    assert table["of these"][2:] == [f"{100 * parts / experts:.3g}", "%"]


def test_a_dry_run_writes_nothing_and_bounds_what_would_be_written(place, run, capsys):
    recipe = write(place)
    assert run("compress", "--dry-run", recipe, place / "small") == 0
    assert not (place / "small").exists()
    assert "writes" in capsys.readouterr().out
    monkeyless = write(place, experts={"cars": "cars", "trains": "nowhere"})
    assert run("compress", "--dry-run", monkeyless, place / "small") == 2


def test_the_list_names_the_experts(compressed, run, capsys):
    assert run("restore", compressed, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("compressed by tall_masks ")
    assert lines[2:] == [f"    expert {name}" for name in EXPERTS]


def test_a_directory_and_its_pretrained_model_may_move_together(
    place, compressed, run, tmp_path_factory
):
    run("restore", compressed, "cars", place / "before")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("small", "pretrained"):
        shutil.move(place / name, elsewhere / name)
    assert run("restore", elsewhere / "small", "cars", elsewhere / "after") == 0
    assert contents(elsewhere / "after") == contents(place / "before")


def test_a_pretrained_model_that_has_moved_is_asked_for_and_may_be_named(
    place, compressed, run, failure
):
    (place / "pretrained").rename(place / "moved")
    assert "--pretrained" in failure("restore", compressed, "cars", place / "out")
    moved = place / "moved"
    restored = run("restore", compressed, "cars", place / "out", "--pretrained", moved)
    assert restored == 0


def test_a_pretrained_model_that_is_stored_is_all_that_is_needed(place, run):
    recipe = write(place)
    run("merge", recipe, place / "merged")
    assert run("compress", recipe, place / "small", "--with-pretrained") == 0
    for name in ("pretrained", *EXPERTS):
        shutil.rmtree(place / name)
    assert run("restore", place / "small", "cars", place / "out") == 0
    assert contents(place / "out") == contents(place / "merged" / "cars")


@pytest.mark.parametrize("given", [(), ("--pretrained", "flowers")])
def test_another_pretrained_model_is_refused_by_its_digest(
    place, compressed, failure, given, monkeypatch
):
    monkeypatch.chdir(place)
    if not given:
        changed = tensors(0)
        changed["bias"][0] += 1
        save_file(changed, place / "pretrained" / "model.safetensors")
    message = failure("restore", compressed, "cars", place / "out", *given)
    assert "is not the pretrained model" in message
    assert not (place / "out").exists()


def test_a_pretrained_model_of_another_layout_is_refused(place, compressed, failure):
    for name, changed in (
        ("bias", torch.zeros(3)),
        ("ids", None),
    ):
        model = tensors(0)
        if changed is None:
            del model[name]
        else:
            model[name] = changed
        save_file(model, place / "pretrained" / "model.safetensors")
        message = failure("restore", compressed, "cars", place / "out")
        assert repr(name) in message


def test_an_unknown_expert_is_answered_with_those_there_are(place, compressed, failure):
    message = failure("restore", compressed, "car", place / "out")
    assert "Did you mean 'cars'?" in message


def test_what_a_merge_would_fail_with_is_said_before_anything_is_read(place, failure):
    assert "pretrained" in failure("compress", write(place, pretrained=None), "small")
    save_file({"other": torch.zeros(3)}, place / "cars" / "model.safetensors")
    assert "'other'" in failure("compress", write(place), place / "small")
    assert not (place / "small").exists()


def test_methods_that_yield_one_model_are_refused(place, failure):
    for method in ("ties", "consensus"):
        recipe = write(place, method=method)
        message = failure("compress", recipe, place / "small")
        assert f"{method} yields one model for all tasks" in message
    mergekit = place / "mergekit.yaml"
    mergekit.write_text(
        yaml.safe_dump(
            {
                "merge_method": "linear",
                "models": [
                    {"model": name, "parameters": {"weight": 1}} for name in EXPERTS
                ],
            }
        )
    )
    assert "linear" in failure("compress", mergekit, place / "small")
    assert not (place / "small").exists()


def test_nothing_is_replaced_without_force(place, compressed, run, failure):
    recipe = place / "recipe.yaml"
    assert "--force" in failure("compress", recipe, compressed)
    assert "--force" in failure("restore", compressed, "cars", place / "pretrained")
    assert "needed" in failure("restore", compressed, "cars", compressed, "--force")
    assert run("compress", recipe, compressed, "--force") == 0
    assert run("restore", compressed, "cars", place / "cars", "--force") == 0


def test_what_is_missing_on_the_command_line_is_asked_for(place, compressed, failure):
    assert "OUT_DIR" in failure("compress", place / "recipe.yaml")
    assert "OUT_DIR" in failure("restore", compressed, "cars")
    assert "no compressed experts" in failure("restore", place, "cars", place / "out")


def _cut(path):
    os.truncate(path, path.stat().st_size - 40)


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def _end_early(path):
    (coded,) = load_file(path).values()
    save_file({"coded": coded[:-60].clone()}, path)


def _rename(path):
    (coded,) = load_file(path).values()
    save_file({"bytes": coded}, path)


@pytest.mark.parametrize("damage", [Path.unlink, _cut, _flip, _end_early, _rename])
@pytest.mark.parametrize("file", ["masks/cars.safetensors", "task_vector.safetensors"])
def test_damaged_files_are_refused_and_nothing_is_left(
    place, compressed, failure, file, damage
):
    damage(compressed / file)
    message = failure("restore", compressed, "cars", place / "out")
    assert "damaged" in message or "cut off" in message
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "damaged"),
        ("[]", "no description"),
        ('{"format": 2}', "in format 2"),
        ('{"format": 1}', "missing"),
    ],
)
def test_damaged_descriptions_are_refused(place, compressed, failure, text, expected):
    (compressed / "compressed.json").write_text(text)
    assert expected in failure("restore", compressed, "cars", place / "out")


def test_a_number_that_float16_cannot_hold_is_refused_when_restored(
    place, run, failure, capsys
):
    recipe = write(place, options={"scale": 1e9}, output_dtype="float16")
    assert run("compress", recipe, place / "small") == 0
    capsys.readouterr()
    message = failure("restore", place / "small", "cars", place / "out")
    assert "float16 cannot hold" in message
    assert not (place / "out").exists()
