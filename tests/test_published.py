"""Published models: what they are, wherever they lie."""

import pytest
import torch
from safetensors.torch import save_file

from mergegrid.errors import InputError, StorageError
from mergegrid.published import Published


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    save_file({"w": torch.ones(2)}, directory / "model.safetensors")
    (directory / "config.json").write_text('{"model_type": "toy"}')
    (directory / "README.md").write_text("a model")
    return directory


def test_a_model_is_the_same_wherever_it_lies(model, tmp_path):
    before = Published(str(model)).identity()
    model.rename(tmp_path / "elsewhere")
    assert Published(str(tmp_path / "elsewhere")).identity() == before


def test_another_parameter_makes_it_another_model(model):
    before = Published(str(model)).identity()
    save_file({"w": torch.zeros(2)}, model / "model.safetensors")
    assert Published(str(model)).identity() != before


def test_what_is_not_read_does_not_count(model):
    before = Published(str(model)).identity()
    (model / "README.md").write_text("the same model")
    assert Published(str(model)).identity() == before


def test_on_the_hub_a_model_is_its_name_and_revision_and_nothing_is_fetched():
    name = "nobody/has-this-model@0123abc"
    assert Published(name).identity() == {"hub": name}


def test_a_directory_is_used_where_it_is(model):
    with Published(str(model)).fetched() as directory:
        assert directory == model


def test_a_model_in_a_bucket_is_read_through_a_copy_that_does_not_stay(model):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(f"{model}/", "/published/model/", recursive=True)
    published = Published("memory://published/model")
    with published.fetched() as directory:
        names = sorted(file.name for file in directory.iterdir())
        assert names == ["config.json", "model.safetensors"]
    assert not directory.exists()
    assert published.configuration() == {"config.json": '{"model_type": "toy"}'}


def test_nothing_and_pickles_are_refused_with_the_way_out(tmp_path):
    with pytest.raises((InputError, StorageError), match="no-such"):
        Published(str(tmp_path / "no-such")).identity()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"Pickled parameters.*safetensors"):
        Published(str(tmp_path)).identity()
