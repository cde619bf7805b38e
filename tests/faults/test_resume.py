"""Faults of other tools in storing, going on and writing; each a test's name."""

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mergegrid.cli import main
from mergegrid.errors import DamagedArtifactError, StorageError
from storage.artifacts import ArtifactStore, load_tensors, save_tensors
from storage.root import Root

KEY = "train-v1-0123456789abcdef"
MODEL = {"w": torch.arange(100.0)}


@pytest.fixture
def store(tmp_path):
    """A root with one artifact, and no memory of it."""
    root = Root.open(str(tmp_path / "root"))
    with ArtifactStore(root).write(KEY, "train", 1, {}, {}) as draft:
        save_tensors(draft / "model.safetensors", MODEL)
    return ArtifactStore(root)


def payload(store):
    (path,) = (p for p in store.root.find("artifacts") if p.endswith(".safetensors"))
    return path


def test_resume_trusting_the_presence_of_a_file_that_was_cut_off(store):
    assert store.missing({KEY}) == set()
    store.root.write(payload(store), store.root.read(payload(store))[:-10])
    assert store.missing({KEY}) == {KEY}
    with pytest.raises(DamagedArtifactError, match=r"model\.safetensors has"):
        store.path(KEY)


def test_resume_trusting_the_presence_of_a_file_that_was_altered(store):
    data = store.root.read(payload(store))
    store.root.write(payload(store), data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedArtifactError, match="another SHA-256"):
        store.path(KEY)
    assert store.missing({KEY}) == {KEY}  # it was set aside, to be made again


def test_resume_trusting_the_presence_of_files_without_a_manifest(store):
    store.root.delete(f"artifacts/{KEY}/manifest.json")
    assert store.root.find("artifacts")
    assert store.missing({KEY}) == {KEY}
    with pytest.raises(StorageError, match="There is no artifact"):
        store.path(KEY)


def test_artifact_made_again_only_half_replaced(store):
    store.root.delete(payload(store))
    with store.write(KEY, "train", 1, {}, {}) as draft:
        save_tensors(draft / "model.safetensors", {"w": -MODEL["w"]})
    (path,) = store.path(KEY).iterdir()
    assert torch.equal(load_tensors(path)["w"], -MODEL["w"])
    assert list(store.verify()) == [(KEY, None)]


# Merged models


@pytest.fixture
def recipe(tmp_path):
    """Two experts in files, and what to do with them."""
    for seed, name in enumerate("pab"):
        generator = torch.Generator().manual_seed(seed)
        tensors = {f"layer.{i}": torch.randn(9, 7, generator=generator) for i in "01"}
        save_file(tensors, tmp_path / f"{name}.safetensors")
    path = tmp_path / "recipe.yaml"
    document = {
        "method": "dare",
        "pretrained": "p.safetensors",
        "experts": {"a": "a.safetensors", "b": "b.safetensors"},
    }
    path.write_text(yaml.safe_dump(document))
    return path


def run(recipe, *more):
    return main(["merge", str(recipe), str(recipe.parent / "out"), *more])


def test_merge_that_fails_leaves_half_a_model(recipe):
    spoilt = load_file(recipe.parent / "b.safetensors")
    spoilt["layer.1"][3, 3] = torch.nan
    save_file(spoilt, recipe.parent / "b.safetensors")
    before = sorted(recipe.parent.rglob("*"))
    assert run(recipe) == 2
    assert sorted(recipe.parent.rglob("*")) == before


def test_merged_model_written_over_another(recipe):
    assert run(recipe) == 0
    out = recipe.parent / "out"
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert run(recipe) == 2
    assert {path: path.read_bytes() for path in out.iterdir()} == before
