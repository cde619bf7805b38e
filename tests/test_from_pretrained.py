"""Merged directories load as transformers' own do, and compute what they should."""

import json

import pytest
import torch
import yaml
from safetensors.torch import save_file

import mergegrid
from mergegrid.cli import main

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

SMALL = {"vocab_size": 50, "max_position_embeddings": 32}
LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NAMES = ("pretrained", "cars", "flowers")


def create(kind, seed, around=None):
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=50, **GPT2)
        model = transformers.GPT2LMHeadModel(config)
    else:
        tied = kind == "tied llama"
        config = transformers.LlamaConfig(**SMALL, **LLAMA, tie_word_embeddings=tied)
        model = transformers.LlamaForCausalLM(config)
    if around is not None:
        with torch.no_grad():
            for mine, its in zip(model.parameters(), around.parameters(), strict=True):
                mine.copy_(its + 0.1 * mine)
    return model.eval()


@pytest.fixture(params=["tied llama", "llama", "gpt2"], scope="module")
def models(request):
    pretrained = create(request.param, 0)
    experts = {
        name: create(request.param, seed, pretrained)
        for seed, name in enumerate(NAMES[1:], 1)
    }
    return {"pretrained": pretrained, **experts}


def write(root, **changes):
    recipe = {
        "method": "ties",
        "pretrained": "pretrained",
        "experts": {name: name for name in NAMES[1:]},
        **changes,
    }
    path = root / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return str(path)


def merged_in_memory(models, recipe):
    states = {name: model.state_dict() for name, model in models.items()}
    merged = mergegrid.merge(
        {n: states[n] for n in NAMES[1:]}, recipe, states[NAMES[0]]
    )
    kind = type(models["pretrained"])
    model = kind(models["pretrained"].config)
    model.load_state_dict(merged)
    return model.eval()


def logits(model):
    tokens = torch.arange(12).view(2, 6)
    with torch.no_grad():
        return model(tokens).logits


@pytest.mark.parametrize("shard", ["5GB", "4KB"])
@pytest.mark.parametrize("method", ["ties", "average", "iso_c", "mlerp"])
def test_a_merged_model_loads_and_gives_the_same_logits(
    models, tmp_path, capsys, shard, method
):
    for name, model in models.items():
        model.save_pretrained(tmp_path / name, max_shard_size=shard)
    recipe = write(tmp_path, method=method, max_shard_size=shard)
    out = tmp_path / "out"
    capsys.readouterr()
    assert main(["merge", recipe, str(out)]) == 0, capsys.readouterr().err
    assert capsys.readouterr().err == ""
    assert (out / "model.safetensors.index.json").exists() is (shard == "4KB")
    loaded, info = transformers.AutoModelForCausalLM.from_pretrained(
        out, output_loading_info=True
    )
    assert not any(info.values()), info
    expected = logits(merged_in_memory(models, method))
    assert torch.equal(logits(loaded.eval()), expected)
    assert not torch.equal(logits(models["pretrained"]), expected)
    tied = models["pretrained"].config.tie_word_embeddings
    embedding = loaded.get_input_embeddings().weight
    head = loaded.get_output_embeddings().weight
    assert (embedding.data_ptr() == head.data_ptr()) is tied
    assert (out / "generation_config.json").is_file()
    assert yaml.safe_load((out / "README.md").read_text().split("---")[1]) == {
        "library_name": "transformers",
        "tags": ["merge", "mergegrid"],
    }


@pytest.mark.parametrize("method", ["tall_masks", "emr", "magnitude_pruning"])
def test_a_restored_expert_loads_and_gives_the_merged_models_logits(
    models, tmp_path, method
):
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
    recipe = write(tmp_path, method=method, output_dtype="bfloat16")
    merged, small, out = (str(tmp_path / name) for name in ("merged", "small", "out"))
    assert main(["merge", recipe, merged]) == 0
    assert main(["compress", recipe, small, "--with-pretrained"]) == 0
    assert main(["restore", small, "cars", out]) == 0
    loaded, info = transformers.AutoModelForCausalLM.from_pretrained(
        out, output_loading_info=True, dtype="auto"
    )
    assert not any(info.values()), info
    expected = transformers.AutoModelForCausalLM.from_pretrained(
        f"{merged}/cars", dtype="auto"
    )
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(logits(loaded.eval()), logits(expected.eval()))


def test_an_embedding_that_is_written_under_each_of_its_names_loads(models, tmp_path):
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        state = {key: t.clone() for key, t in model.state_dict().items()}
        file = tmp_path / name / "model.safetensors"
        save_file(state, file, metadata={"format": "pt"})
    assert main(["merge", write(tmp_path), str(tmp_path / "out")]) == 0
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(loaded.eval()), logits(merged_in_memory(models, "ties")))


def test_a_type_that_is_asked_for_is_the_one_that_loads(models, tmp_path):
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
    recipe = write(tmp_path, output_dtype="bfloat16")
    assert main(["merge", recipe, str(tmp_path / "out")]) == 0
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype="auto"
    )
    assert loaded.dtype == torch.bfloat16
    expected = merged_in_memory(models, "ties").bfloat16().state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
