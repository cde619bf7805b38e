"""The open_clip family."""

import json
import math

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.func import functional_call, grad, vmap

from mergegrid.errors import InputError, LayoutError, UnknownNameError
from mergegrid.models import FAMILIES, get_family
from mergegrid.models.open_clip_classifier import tokenize
from mergegrid.suites import SUITES

FAMILY = get_family("open_clip")
SUITE = SUITES["glyphs"](
    categories=2, classes_per_category=2, image_size=16, width=32, layers=2
)


def create(seed=0):
    return FAMILY.create(SUITE.architecture(), seed=seed)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    FAMILY.save(create(), directory)
    return directory


def batch(count=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 3, 16, 16), generator=generator)
    labels = torch.randint(4, (count,), generator=generator)
    return {"image": images.to(torch.uint8), "label": labels}


def test_log_probabilities_are_normalized_over_all_labels():
    log_probabilities = create()(batch())
    assert log_probabilities.shape == (5, 4)
    torch.testing.assert_close(log_probabilities.exp().sum(dim=-1), torch.ones(5))


def test_it_is_what_open_clip_computes():
    model = create().eval()
    theirs = open_clip.CustomTextCLIP(
        embed_dim=64,
        vision_cfg=SUITE.architecture()["vision_cfg"],
        text_cfg=SUITE.architecture()["text_cfg"]
        | {
            "vocab_size": model.text.vocab_size,
            "context_length": model.text.context_length,
        },
    ).eval()
    theirs.load_state_dict(model.state_dict())
    inputs = batch()
    pixels = (inputs["image"].float() / 255 - 0.5) / 0.25
    logits, _ = theirs.get_logits(
        pixels, tokenize(SUITE.architecture()["heads"][0]["classes"])
    )
    torch.testing.assert_close(model(inputs), logits.log_softmax(dim=-1))


def test_a_stored_model_answers_as_it_did(stored):
    torch.testing.assert_close(FAMILY.load(stored)(batch()), create().eval()(batch()))


def test_exactly_the_vision_tower_is_merged(stored):
    names = FAMILY.merged_parameters(FAMILY.load(stored)).keys()
    assert names == {f"visual.{name}" for name, _ in create().visual.named_parameters()}
    assert "visual.transformer.resblocks.1.attn.in_proj_weight" in names


def test_before_pretraining_everything_is_trained():
    model = create().train()
    model(batch())[0, 0].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_head_follows_the_text_tower_until_it_is_frozen():
    def answers_move(model):
        before = model(batch()).detach()
        with torch.no_grad():
            model.text.text_projection.neg_()
        return not torch.allclose(model(batch()), before)

    model = create()
    assert answers_move(model)
    FAMILY.freeze(model)
    assert not answers_move(model)


def test_the_same_seed_makes_the_same_model_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    one, same, other = create(3), create(3), create(4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.visual.proj, same.visual.proj)
    assert not torch.equal(one.visual.proj, other.visual.proj)


def test_loading_leaves_the_global_generator_alone(stored):
    state = torch.get_rng_state()
    FAMILY.load(stored)
    assert torch.equal(torch.get_rng_state(), state)


def test_parameters_are_set_in_place(stored):
    model = FAMILY.load(stored)
    places = [p.data_ptr() for p in model.parameters()]
    values = {name: p + 1 for name, p in FAMILY.merged_parameters(model).items()}
    FAMILY.set_parameters(model, values)
    merged = FAMILY.merged_parameters(model)
    assert all(torch.equal(merged[name], values[name]) for name in values)
    assert [p.data_ptr() for p in model.parameters()] == places


def test_parameters_that_do_not_fit_are_named_and_change_nothing(stored):
    model = FAMILY.load(stored)
    fitting = {n: p + 1 for n, p in FAMILY.merged_parameters(model).items()}
    before = {n: p.clone() for n, p in FAMILY.merged_parameters(model).items()}
    surplus = fitting | {"visual.head": torch.zeros(1)}
    lacking = {n: p for n, p in fitting.items() if n != "visual.proj"}
    bent = fitting | {"visual.proj": torch.zeros(32, 65)}
    with pytest.raises(LayoutError, match=r"given parameters has .*'visual\.head'"):
        FAMILY.set_parameters(model, surplus)
    with pytest.raises(LayoutError, match=r"the model has .*'visual\.proj'"):
        FAMILY.set_parameters(model, lacking)
    with pytest.raises(LayoutError, match=r"'visual\.proj' has shape \(32, 64\).*65"):
        FAMILY.set_parameters(model, bent)
    after = FAMILY.merged_parameters(model)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_per_example_gradients_are_those_of_single_examples(stored):
    model = FAMILY.load(stored)
    parameters = FAMILY.merged_parameters(model)

    def loss(parameters, image, label):
        one = {"image": image[None], "label": label[None]}
        log_probabilities = functional_call(model, parameters, (one,))
        return -log_probabilities.gather(1, label.view(1, 1)).sum()

    inputs = batch()
    together = vmap(grad(loss), in_dims=(None, 0, 0))(
        parameters, inputs["image"], inputs["label"]
    )
    for index in range(5):
        model.zero_grad()
        one = {name: tensor[index : index + 1] for name, tensor in inputs.items()}
        (-model(one)[0, one["label"][0]]).backward()
        for name, parameter in model.visual.named_parameters():
            torch.testing.assert_close(
                together[f"visual.{name}"][index], parameter.grad, atol=1e-5, rtol=1e-4
            )


def test_attention_is_the_same_with_and_without_gradients(stored):
    model = FAMILY.load(stored)
    with torch.inference_mode():
        fused = model(batch())
    torch.testing.assert_close(model(batch()).detach(), fused.clone())
    torch.testing.assert_close(model.train()(batch()).detach(), fused.clone())


def test_words_are_numbered_alphabetically_and_prompts_end_alike():
    tokens = tokenize(["white chess king", "Chess queen"])
    # chess 1, king 2, queen 3, white 4; the end is 5
    assert tokens.tolist() == [[4, 1, 2, 5], [1, 3, 5, 0]]


def test_logit_scale_is_clips(stored):
    assert FAMILY.load(stored).logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_an_unknown_family_or_option_is_named():
    assert "open_clip" in FAMILIES
    with pytest.raises(UnknownNameError, match="Did you mean 'open_clip'"):
        get_family("openclip")
    architecture = SUITE.architecture()
    architecture["vision_cfg"] = architecture["vision_cfg"] | {"widht": 3}
    with pytest.raises(UnknownNameError, match=r"vision_cfg 'widht'.*'width'"):
        FAMILY.create(architecture, seed=0)
    with pytest.raises(InputError, match=r"embed_dim: field required"):
        FAMILY.create({"vision_cfg": {}, "text_cfg": {}}, seed=0)
    with pytest.raises(InputError, match=r"heads: .*at least 1 item"):
        FAMILY.create(SUITE.architecture() | {"heads": []}, seed=0)


def test_directories_without_this_model_are_refused(stored, tmp_path):
    with pytest.raises(InputError, match=r"no config\.json in"):
        FAMILY.load(tmp_path)
    config = json.loads((stored / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"family": "t5"}))
    with pytest.raises(InputError, match="family 't5', not 'open_clip'"):
        FAMILY.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    parameters = load_file(stored / "model.safetensors")
    parameters.pop("visual.proj")
    save_file(parameters, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"differ in 'visual\.proj'"):
        FAMILY.load(tmp_path)


def test_a_model_of_another_family_cannot_be_stored(tmp_path):
    with pytest.raises(TypeError, match="Linear is no open_clip classifier"):
        FAMILY.save(torch.nn.Linear(2, 2), tmp_path)
