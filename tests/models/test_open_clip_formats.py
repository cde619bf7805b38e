"""Models in the formats of hubs, tiny and random."""

import json

import open_clip
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mergegrid.errors import InputError, LayoutError
from mergegrid.models import get_family
from mergegrid.models.open_clip_formats import read_model_sections
from tests.replicas.clip import MODEL, save_model

FAMILY = get_family("open_clip")
CLASSES = {"heads": [{"classes": ["cat", "dog"], "templates": ["a photo of a {}."]}]}
ARCHITECTURE = MODEL | CLASSES | {"tokenizer": "clip"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Store a model as open_clip's hub does."""
    directory = tmp_path_factory.mktemp("hub")
    return directory, save_model(directory)


def clip_configuration(**changes):
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    text = {
        "vocab_size": 49408,
        "hidden_size": 16,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 24,
        "eos_token_id": 49407,
        "bos_token_id": 49406,
    }
    return transformers.CLIPConfig(
        vision_config=vision | changes,
        text_config=text | changes,
        projection_dim=24,
    )


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Store a model as transformers does; give the directory and the model."""
    directory = tmp_path_factory.mktemp("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = transformers.CLIPModel(clip_configuration()).eval()
        for parameter in model.parameters():  # biases are 0 at first, norms 1
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(directory)
    return directory, model


def architecture_of(directory):
    names = ("open_clip_config.json", "config.json")
    texts = {n: (directory / n).read_text() for n in names if (directory / n).exists()}
    return read_model_sections(texts) | CLASSES | {"tokenizer": "clip"}


def images(count=3):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (count, 3, 32, 32), generator=generator)
    return {"image": pixels.to(torch.uint8)}


def test_open_clips_own_format_is_the_model_that_open_clip_builds(hub):
    directory, parameters = hub
    theirs = open_clip.CLIP(**MODEL).eval()
    theirs.load_state_dict(parameters)
    model = FAMILY.import_model(directory, ARCHITECTURE).eval()
    pixels = (images()["image"].float() / 255 - 0.5) / 0.25
    tokens = open_clip.tokenize(["a photo of a cat.", "a photo of a dog."], 24)
    logits, _ = theirs.get_logits(pixels, tokens)
    torch.testing.assert_close(model(images()), logits.log_softmax(dim=-1))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_model_of_transformers_answers_as_it_does_there(theirs):
    directory, model = theirs
    ours = FAMILY.import_model(directory, architecture_of(directory)).eval()
    pixels = images()["image"] * ours.factor - ours.shift
    tokens = open_clip.tokenize(["a photo of a cat.", "a photo of a dog."], 24)
    with torch.no_grad():
        wanted = model(input_ids=tokens, pixel_values=pixels)
        torch.testing.assert_close(
            ours(images()), wanted.logits_per_image.log_softmax(dim=-1)
        )
        features = torch.nn.functional.normalize(ours.visual(pixels), dim=-1)
        torch.testing.assert_close(features, wanted.image_embeds)


def test_an_expert_is_the_vision_tower_of_a_whole_model(theirs):
    directory, _ = theirs
    architecture = architecture_of(directory)
    pretrained = FAMILY.import_model(directory, architecture)
    FAMILY.freeze(pretrained)
    expert = FAMILY.import_expert(directory, architecture, pretrained)
    own = FAMILY.merged_parameters(pretrained)
    assert expert.keys() == own.keys()
    assert all(torch.equal(expert[name], own[name]) for name in own)


@pytest.mark.parametrize("prefix", ["", "vision_model."])
def test_a_vision_tower_alone_keeps_the_pretrained_projection(theirs, tmp_path, prefix):
    directory, _ = theirs
    architecture = architecture_of(directory)
    pretrained = FAMILY.import_model(directory, architecture)
    FAMILY.freeze(pretrained)
    tower = transformers.CLIPVisionModel(clip_configuration().vision_config).eval()
    tower.save_pretrained(tmp_path)
    parameters = load_file(tmp_path / "model.safetensors")
    bare = {n.removeprefix("vision_model."): t for n, t in parameters.items()}
    renamed = {f"{prefix}{name}": tensor for name, tensor in bare.items()}
    save_file(renamed, tmp_path / "model.safetensors")
    expert = FAMILY.import_expert(tmp_path, architecture, pretrained)
    own = FAMILY.merged_parameters(pretrained)
    assert torch.equal(expert["visual.proj"], own["visual.proj"])
    FAMILY.set_parameters(pretrained, expert)
    pixels = images()["image"] * pretrained.factor - pretrained.shift
    with torch.no_grad():
        wanted = tower(pixel_values=pixels).pooler_output @ own["visual.proj"]
        torch.testing.assert_close(pretrained.visual(pixels), wanted)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_an_expert_may_be_a_file_with_open_clips_names(hub, tmp_path, prefix):
    directory, parameters = hub
    pretrained = FAMILY.import_model(directory, ARCHITECTURE)
    FAMILY.freeze(pretrained)
    given = {f"{prefix}{name}": tensor + 1 for name, tensor in parameters.items()}
    save_file(given, tmp_path / "expert.safetensors")
    expert = FAMILY.import_expert(tmp_path, ARCHITECTURE, pretrained)
    for name, tensor in FAMILY.merged_parameters(pretrained).items():
        assert torch.equal(expert[name], tensor + 1)


def test_what_was_saved_here_can_start_another_experiment(hub, tmp_path):
    directory, _ = hub
    FAMILY.save(FAMILY.import_model(directory, ARCHITECTURE), tmp_path)
    other = architecture_of(tmp_path) | {"heads": [{"classes": ["a", "b", "c"]}]}
    again = FAMILY.import_model(tmp_path, other)
    assert again(images()).shape == (3, 3)
    stored = load_file(directory / "open_clip_model.safetensors")
    assert torch.equal(again.visual.proj, stored["visual.proj"])


def test_pickled_models_are_refused_with_the_way_out(hub, tmp_path):
    directory, parameters = hub
    pretrained = FAMILY.import_model(directory, ARCHITECTURE)
    torch.save(parameters, tmp_path / "finetuned.pt")
    with pytest.raises(InputError, match=r"finetuned\.pt is pickled.*save_file"):
        FAMILY.import_expert(tmp_path, ARCHITECTURE, pretrained)


def test_what_does_not_fit_is_named(hub, tmp_path):
    directory, parameters = hub
    wider = MODEL["vision_cfg"] | {"layers": 3}
    with pytest.raises(InputError, match=r"differ in vision_cfg\.layers"):
        FAMILY.import_model(directory, ARCHITECTURE | {"vision_cfg": wider})
    with pytest.raises(InputError, match="differ in quick_gelu"):
        FAMILY.import_model(directory, ARCHITECTURE | {"quick_gelu": False})
    with pytest.raises(InputError, match=r"no CLIP model: there is neither"):
        FAMILY.import_model(tmp_path, ARCHITECTURE)
    pretrained = FAMILY.import_model(directory, ARCHITECTURE)
    FAMILY.freeze(pretrained)
    other = {"visual.proj": torch.zeros(2), "visual.odd": torch.zeros(2)}
    save_file(other, tmp_path / "a.safetensors")
    with pytest.raises(LayoutError, match="Only "):
        FAMILY.import_expert(tmp_path, ARCHITECTURE, pretrained)
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"no vision tower of CLIP.*visual\.conv1"):
        FAMILY.import_expert(tmp_path, ARCHITECTURE, pretrained)
    (tmp_path / "a.safetensors").unlink()
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    lacking = {n: t for n, t in parameters.items() if n != "positional_embedding"}
    save_file(lacking, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(InputError, match=r"differ in 'text\.positional_embedding'"):
        FAMILY.import_model(tmp_path, ARCHITECTURE)


def test_a_model_that_is_no_plain_clip_is_refused(tmp_path):
    odd = {"model_cfg": MODEL | {"multimodal_cfg": {}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(odd))
    with pytest.raises(InputError, match=r"'multimodal_cfg'.*no plain CLIP"):
        FAMILY.import_model(tmp_path, ARCHITECTURE)
    configuration = clip_configuration(hidden_act="relu").to_dict()
    with pytest.raises(InputError, match="activations are relu"):
        read_model_sections({"config.json": json.dumps(configuration)})
