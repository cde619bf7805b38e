"""The family of models with adapters: what peft trains and stores, merged."""

import json
import math

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    CLIPConfig,
    CLIPModel,
)

from mergegrid import merge
from mergegrid.errors import InputError, UnknownNameError
from mergegrid.evaluation import evaluate
from mergegrid.methods import get_method
from mergegrid.models import get_family
from mergegrid.statistics.fisher import diagonal_fisher
from mergegrid.statistics.gram import gram_matrices
from mergegrid.suites.examples import TensorExamples
from mergegrid.suites.texts import Text, Texts
from mergegrid.training import TrainingSettings, train

# peft asks transformers for something by a name that it will not have for ever.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")

FAMILY = get_family("adapters")
WORDS = ["red", "green", "blue", "the", "sky", "grass", "rose"]
SIZES = {"prompt_tokens": 4, "answer_tokens": 3, "vocabulary": WORDS}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 16,
}
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 16,
}
T5 = {
    "model_type": "t5",
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
    "dropout_rate": 0.0,
}
BASES = {
    "llama": ("causal", {"config": LLAMA, **SIZES}),
    "gpt2": ("causal", {"config": GPT2, **SIZES}),
    "t5": ("seq2seq", {"config": T5, **SIZES}),
}
LORA = {
    "llama": ["q_proj", "v_proj", "down_proj"],
    "gpt2": ["c_attn", "mlp.c_proj"],
    "t5": ["q", "v", "wo"],
}
IA3 = {
    "llama": (["k_proj", "v_proj", "down_proj"], ["down_proj"]),
    "gpt2": (["c_attn", "mlp.c_proj"], ["mlp.c_proj"]),
    "t5": (["k", "v", "wo"], ["wo"]),
}
PATTERNS = {
    "llama": ({"down_proj": 3, "layers.1.self_attn.q_proj": 1}, {"v_proj": 7}),
    "gpt2": ({"c_attn": 3}, {"h.1.attn.c_attn": 7}),
    "t5": ({"wo": 3}, {"decoder.block.0.layer.0.SelfAttention.q": 7}),
}
QUESTIONS = Texts(
    [
        Text("sky", ("blue",), ("red", "green", "blue")),
        Text("the grass", ("green",), ("red", "green", "blue")),
        Text("rose rose", ("red",), ("red", "green", "blue")),
    ]
)


def architecture(which="llama", **adapter):
    family, base = BASES[which]
    adapter = {"kind": "lora", "targets": LORA[which], "r": 2, "alpha": 4} | adapter
    return {"family": family, "base": base, "adapter": adapter}


def ia3(which="llama"):
    targets, feedforward = IA3[which]
    adapter = {"kind": "ia3", "targets": targets, "feedforward": feedforward}
    return architecture(which) | {"adapter": adapter}


def loaded(made, directory):
    FAMILY.save(FAMILY.create(made, seed=0), directory)
    return FAMILY.load(directory)


def values(model):
    return {n: p.clone() for n, p in FAMILY.merged_parameters(model).items()}


def transformers_model(directory):
    kind = json.loads((directory / "config.json").read_text())["model_type"]
    auto = AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM
    return auto.from_pretrained(directory)


def published(directory, config, seed=0):
    """Store an adapter of the model in a directory, as its author would."""
    base = transformers_model(directory)
    torch.manual_seed(seed)
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "ia3_l" in name:
                parameter.add_(torch.randn(parameter.shape) / 4)
    model.save_pretrained(directory / "published")
    return model.eval()


def lora_config(which, **changes):
    ranks, alphas = PATTERNS[which]
    settings = {
        "r": 2,
        "lora_alpha": 5,
        "target_modules": LORA[which],
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "fan_in_fan_out": which == "gpt2",
    }
    return LoraConfig(**settings | changes)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("which", BASES)
def test_a_published_lora_is_read_as_the_product_that_peft_merges(
    tmp_path, which, rslora
):
    model = loaded(architecture(which), tmp_path)
    theirs = published(tmp_path, lora_config(which, use_rslora=rslora))
    found = FAMILY.import_expert(tmp_path / "published", {}, model)
    assert any((found[n] - p).abs().max() > 0.1 for n, p in values(model).items())
    merged = theirs.merge_and_unload().state_dict()
    for name, ours in found.items():
        expected = merged[name.removeprefix("base.model.")]
        expected = expected.T if which == "gpt2" else expected
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("which", BASES)
def test_a_published_ia3_does_what_it_does_in_peft(tmp_path, which):
    targets, feedforward = IA3[which]
    model = loaded(ia3(which), tmp_path)
    config = IA3Config(
        target_modules=targets,
        feedforward_modules=feedforward,
        fan_in_fan_out=which == "gpt2",
    )
    theirs = published(tmp_path, config)
    before = answers(model)
    found = FAMILY.import_expert(tmp_path / "published", {}, model)
    FAMILY.set_parameters(model, found)
    assert (answers(model) - before).abs().max() > 0.01
    # The vectors folded into the weights of a plain model.
    theirs.merge_and_unload().save_pretrained(tmp_path / "folded")
    family = BASES[which][0]
    plain = get_family(family).import_model(
        tmp_path / "folded", architecture(which)["base"]
    )
    torch.testing.assert_close(answers(model), answers(plain.eval(), family))


def answers(model, family="adapters"):
    with torch.no_grad():
        return model(get_family(family).encode(model, QUESTIONS)[:])


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("which", BASES)
def test_training_adds_the_product_of_factors_to_a_weight(tmp_path, which, rslora):
    ranks, alphas = PATTERNS[which]
    adapter = {"rank_pattern": ranks, "alpha_pattern": alphas, "rslora": rslora}
    model = loaded(architecture(which, **adapter), tmp_path)
    start = values(model)
    with FAMILY.adapting(model, seed=0):
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        assert all("lora_" in name for name in trained)
        generator = torch.Generator().manual_seed(1)
        for parameter in trained.values():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 4
        inside = answers(model)
        factors = {n: p.detach().double().numpy() for n, p in trained.items()}
    torch.testing.assert_close(answers(model), inside)
    for name, weight in values(model).items():
        layer = name.removesuffix(".weight")
        a = factors[f"{layer}.lora_A.default.weight"]
        b = factors[f"{layer}.lora_B.default.weight"]
        rank = next((r for end, r in ranks.items() if layer.endswith(end)), 2)
        alpha = next((r for end, r in alphas.items() if layer.endswith(end)), 4)
        assert a.shape[0] == rank
        scaling = alpha / (np.sqrt(rank) if rslora else rank)
        expected = start[name].double().numpy() + scaling * b @ a
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_training_begins_at_the_pretrained_model_and_the_seed_decides_how(tmp_path):
    model = loaded(architecture(), tmp_path)
    state = torch.get_rng_state()
    begun = []
    for seed in (3, 3, 4):
        before = answers(model)
        with FAMILY.adapting(model, seed=seed):
            torch.testing.assert_close(answers(model), before)
            begun.append({n: p for n, p in model.named_parameters() if "lora_A" in n})
    assert torch.equal(torch.get_rng_state(), state)
    for name, factor in begun[0].items():
        assert torch.equal(factor, begun[1][name])
        assert not torch.equal(factor, begun[2][name])


@pytest.mark.parametrize("made", [architecture(), ia3()], ids=["lora", "ia3"])
def test_a_trained_expert_is_its_merged_parameters(tmp_path, made):
    model = loaded(made, tmp_path)
    start = values(model)
    examples = FAMILY.encode(model, QUESTIONS)
    settings = TrainingSettings(steps=40, batch_size=3, learning_rate=0.1)
    with FAMILY.adapting(model, seed=0):
        train(model, examples, lambda m: evaluate(m, examples, metric="choice"),
              settings, seed=0)  # fmt: skip
    assert (
        evaluate(model, examples, metric="choice").value
        > evaluate(FAMILY.load(tmp_path), examples, metric="choice").value
    )
    fresh = FAMILY.load(tmp_path)
    FAMILY.set_parameters(fresh, values(model))
    torch.testing.assert_close(answers(fresh), answers(model))
    moved = {n for n, p in values(model).items() if not torch.equal(p, start[n])}
    assert moved == start.keys()


def test_exactly_the_targets_are_merged(tmp_path):
    assert values(loaded(architecture(), tmp_path)).keys() == {
        f"base.model.model.layers.{layer}.{name}.weight"
        for layer in (0, 1)
        for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")
    }


def test_ia3_merges_vectors_that_are_ones_before_training(tmp_path):
    vectors = values(loaded(ia3(), tmp_path))
    assert vectors.keys() == {
        f"base.model.model.layers.{layer}.{name}.ia3_l.default"
        for layer in (0, 1)
        for name in ("self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj")
    }
    assert all(bool((vector == 1).all()) for vector in vectors.values())


def test_the_mean_of_products_is_not_the_product_of_means(tmp_path):
    model = loaded(architecture(), tmp_path)
    start, experts, factors = values(model), {}, []
    for seed in (0, 1):
        published(tmp_path, lora_config("llama", rank_pattern={}), seed)
        stored = load_file(tmp_path / "published" / "adapter_model.safetensors")
        factors.append(stored)
        path = tmp_path / "published"
        experts[f"expert {seed}"] = FAMILY.import_expert(path, {}, model)
    merged = merge(experts, get_method("average").recipe({}))
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    a, b = (
        sum(each[f"{layer}.lora_{part}.weight"].double() for each in factors) / 2
        for part in "AB"
    )
    products = [
        5 / 2 * each[f"{layer}.lora_B.weight"].double()
        @ each[f"{layer}.lora_A.weight"].double()
        for each in factors
    ]  # fmt: skip
    name = "base.model.model.layers.0.self_attn.q_proj.weight"
    found = merged[name].double() - start[name].double()
    torch.testing.assert_close(found, sum(products) / 2, atol=1e-6, rtol=1e-4)
    assert (found - 5 / 2 * b @ a).abs().max() > 0.01


def test_knots_aligns_products_by_their_ranks(tmp_path):
    model = loaded(architecture(), tmp_path)
    start, experts = values(model), {}
    for seed in (0, 1):
        published(tmp_path, lora_config("llama"), seed)
        path = tmp_path / "published"
        experts[f"expert {seed}"] = FAMILY.import_expert(path, {}, model)
    options = {"merge_by": "ties", "density": 0.5, "scale": 1.0}
    recipe = get_method("knots").recipe(options)
    merged = merge(experts, recipe, pretrained=start)
    for name, before in start.items():
        products = [experts[e][name].double() - before.double() for e in experts]
        u, s, _ = np.linalg.svd(np.hstack(products), full_matrices=False)
        kept = s > 1e-5
        ranks = sum(np.linalg.matrix_rank(p.numpy(), tol=1e-5) for p in products)
        assert kept.sum() <= ranks
        change = merged[name].double().numpy() - before.double().numpy()
        outside = change - u[:, kept] @ (u[:, kept].T @ change)
        assert np.abs(change).max() > 0.01
        np.testing.assert_allclose(outside, 0, atol=1e-6)


def test_statistics_are_those_of_the_merged_weight(tmp_path):
    model = loaded(architecture(), tmp_path)
    published(tmp_path, lora_config("llama"))
    FAMILY.set_parameters(
        model, FAMILY.import_expert(tmp_path / "published", {}, model)
    )
    # The same weights in a model that is merged as a whole.
    plain = get_family("causal").load(tmp_path)
    whole = {n.removeprefix("base."): p for n, p in values(model).items()}
    with torch.no_grad():
        for name, value in whole.items():
            plain.get_parameter(name).copy_(value)
    examples = FAMILY.encode(model, QUESTIONS)
    for measure in (gram_matrices, diagonal_fisher):
        ours, theirs = measure(model, examples), measure(plain, examples)
        assert ours.keys() == values(model).keys()
        for name, matrix in ours.items():
            torch.testing.assert_close(matrix, theirs[name.removeprefix("base.")])


def test_ia3_has_fisher_information_and_no_gram_matrices(tmp_path):
    model = loaded(ia3(), tmp_path)
    examples = FAMILY.encode(model, QUESTIONS)
    assert gram_matrices(model, examples) == {}
    fisher = diagonal_fisher(model, examples)
    assert {n: f.shape for n, f in fisher.items()} == {
        n: p.shape for n, p in values(model).items()
    }
    assert all(f.max() > 0 for f in fisher.values())


@pytest.mark.parametrize("made", [architecture("gpt2"), ia3("t5")], ids=["lora", "ia3"])
def test_a_stored_model_answers_as_it_did(tmp_path, made):
    model = loaded(made, tmp_path)
    generator = torch.Generator().manual_seed(0)
    changed = {
        name: value + torch.randn(value.shape, generator=generator) / 4
        for name, value in values(model).items()
    }
    FAMILY.set_parameters(model, changed)
    (tmp_path / "again").mkdir()
    FAMILY.save(model, tmp_path / "again")
    torch.testing.assert_close(
        values(FAMILY.load(tmp_path / "again")), changed, rtol=0, atol=0
    )
    assert (answers(model) - answers(FAMILY.load(tmp_path))).abs().max() > 0.01
    torch.testing.assert_close(answers(FAMILY.load(tmp_path / "again")), answers(model))


@pytest.mark.parametrize("which", BASES)
def test_a_merged_model_is_exported_as_an_adapter_that_peft_reads(tmp_path, which):
    model = loaded(architecture(which), tmp_path)
    start = values(model)
    published(tmp_path, lora_config(which))
    merged = FAMILY.import_expert(tmp_path / "published", {}, model)
    FAMILY.set_parameters(model, merged)
    out = tmp_path / "exported"
    out.mkdir()
    assert FAMILY.save_adapter(model, start, out, rank=16) < 1e-6
    read = FAMILY.import_expert(out, {}, FAMILY.load(tmp_path))
    torch.testing.assert_close(read, merged, rtol=1e-5, atol=1e-6)
    theirs = PeftModel.from_pretrained(transformers_model(tmp_path), out)
    theirs = theirs.merge_and_unload().state_dict()
    for name, ours in merged.items():
        expected = theirs[name.removeprefix("base.model.")]
        expected = expected.T if which == "gpt2" else expected
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2])
def test_the_error_of_a_cut_adapter_is_what_is_missing_from_it(tmp_path, rank):
    model = loaded(architecture(), tmp_path)
    start = values(model)
    published(tmp_path, lora_config("llama"))
    merged = FAMILY.import_expert(tmp_path / "published", {}, model)
    FAMILY.set_parameters(model, merged)
    out = tmp_path / "exported"
    out.mkdir()
    reported = FAMILY.save_adapter(model, start, out, rank=rank)
    read = FAMILY.import_expert(out, {}, FAMILY.load(tmp_path))
    missing = changed = best = 0.0
    for name, before in start.items():
        change = merged[name].double() - before.double()
        missing += (merged[name] - read[name]).double().square().sum()
        changed += change.square().sum()
        # No product of that rank is nearer.
        best += np.square(np.linalg.svd(change.numpy())[1][rank:]).sum()
        found = read[name].double() - before.double()
        assert np.linalg.matrix_rank(found.numpy(), tol=1e-5) <= rank
    assert reported == pytest.approx(math.sqrt(missing / changed), rel=1e-4)
    assert reported == pytest.approx(math.sqrt(best / changed), rel=1e-4)
    assert reported > 0.01


def changed_config(directory, **changes):
    path = directory / "published" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


REFUSED = {
    "use_dora": True,
    "bias": "all",
    "modules_to_save": ["lm_head"],
    "lora_bias": True,
    "trainable_token_indices": [1, 2],
    "target_parameters": ["experts.weight"],
    "layer_replication": [[0, 2]],
    "use_qalora": True,
    "alora_invocation_tokens": [1],
    "init_lora_weights": "pissa",
}


@pytest.mark.parametrize(("key", "value"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_merged_as_a_product_is_refused_by_name(tmp_path, key, value):
    model = loaded(architecture(), tmp_path)
    published(tmp_path, lora_config("llama"))
    changed_config(tmp_path, **{key: value})
    assert f"cannot be merged: {key} is {value!r}" in refusal(tmp_path, model)


def refusal(directory, model):
    with pytest.raises(InputError) as caught:
        FAMILY.import_expert(directory / "published", {}, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_parameters_of_an_adapter_that_are_no_factors_are_refused_by_name(tmp_path):
    model = loaded(architecture(), tmp_path)
    published(tmp_path, lora_config("llama"))
    file = tmp_path / "published" / "adapter_model.safetensors"
    surplus = "base_model.model.model.embed_tokens.lora_embedding_A"
    save_file(load_file(file) | {surplus: torch.zeros(2, 9)}, file)
    assert "it has 'model.embed_tokens.lora_embedding_A'" in refusal(tmp_path, model)


def test_an_adapter_of_another_kind_is_refused_by_name(tmp_path):
    model = loaded(architecture(), tmp_path)
    assert "There is no adapter_config.json" in refusal(tmp_path, model)
    published(tmp_path, IA3Config(target_modules=["v_proj"], feedforward_modules=[]))
    assert "of the kind ia3, not lora" in refusal(tmp_path, model)
    changed_config(tmp_path, peft_type="PREFIX_TUNING")
    assert "is a PREFIX_TUNING adapter" in refusal(tmp_path, model)
    changed_config(tmp_path, peft_type="LORA")
    (tmp_path / "published" / "adapter_model.safetensors").unlink()
    assert "pickled adapters are not loaded" in refusal(tmp_path, model)


def test_an_adapter_for_another_base_model_is_refused_by_name(tmp_path):
    for name in ("here", "wider", "other"):
        (tmp_path / name).mkdir()
    model = loaded(architecture(), tmp_path / "here")
    wide = architecture()
    wide["base"] = wide["base"] | {"config": LLAMA | {"intermediate_size": 32}}
    loaded(wide, tmp_path / "wider")
    published(tmp_path / "wider", lora_config("llama"))
    line = refusal(tmp_path / "wider", model)
    assert "is an adapter for another base model" in line
    assert "(16, 24)" in line
    assert "(16, 32)" in line
    loaded(architecture("gpt2"), tmp_path / "other")
    published(tmp_path / "other", lora_config("gpt2"))
    line = refusal(tmp_path / "other", model)
    assert "another base model: this one has no layer 'transformer.h.0" in line
    published(tmp_path / "here", LoraConfig(target_modules=["q_proj", "o_proj"]))
    line = refusal(tmp_path / "here", model)
    assert "o_proj', but the targets are q_proj, v_proj, down_proj" in line


def test_targets_that_are_none_are_refused_before_anything_is_trained():
    def refused(error, **changes):
        made = FAMILY.create(architecture(**changes), seed=0)
        with pytest.raises(error) as caught:
            FAMILY.freeze(made)
        return str(caught.value)

    line = refused(UnknownNameError, targets=["q_prj"])
    assert "no layer for lora to adapt 'q_prj'. Did you mean 'q_proj'?" in line
    assert "'embed_tokens'" in refused(UnknownNameError, targets=["embed_tokens"])
    line = refused(InputError, which="gpt2", targets=["lm_head"])
    assert (
        "cannot be adapted: its weight is also that of 'model.transformer.wte'" in line
    )
    with pytest.raises(InputError, match=r"adapter\.lora\.rank: extra inputs"):
        FAMILY.create(architecture(rank=3), seed=0)
    with pytest.raises(UnknownNameError, match="model family 'causl'"):
        FAMILY.create(architecture() | {"family": "causl"}, seed=0)


def clip(**adapter):
    from mergegrid.suites import SUITES

    base = SUITES["glyphs"](
        categories=2, classes_per_category=2, image_size=16, width=32, layers=2
    ).architecture()
    adapter = {"kind": "lora", "targets": ["attn", "c_fc"], "r": 2} | adapter
    return {"family": "open_clip", "base": base, "adapter": adapter}


def images(count=6):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 16, 16), generator=generator)
    return TensorExamples(
        {"image": pixels.to(torch.uint8), "label": torch.arange(count) % 4}
    )


def test_the_attention_of_open_clip_is_trained_by_projections(tmp_path):
    model = loaded(clip(), tmp_path)
    start, batch = values(model), images()[:]
    before = model(batch)
    with FAMILY.adapting(model, seed=0):
        torch.testing.assert_close(model(batch), before)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        for parameter in trained.values():
            parameter.data += 0.2 * torch.ones_like(parameter).cumsum(0)
        inside = model(batch)
        assert not any(name.startswith("base.text.") for name in trained)
    assert (inside - before).abs().max() > 0.01
    torch.testing.assert_close(model(batch), inside, rtol=1e-4, atol=1e-5)
    name = "base.visual.transformer.resblocks.0.attn.in_proj_weight"
    change = (values(model)[name] - start[name]).numpy()
    for part in np.split(change, 3):
        assert np.linalg.matrix_rank(part, tol=1e-5) <= 2
    assert sorted(n for n, _ in model.named_parameters()) == sorted(
        n for n, _ in FAMILY.load(tmp_path).named_parameters()
    )


def test_lora_of_transformers_clip_is_read_into_open_clip(tmp_path):
    model = loaded(clip(), tmp_path)
    vision = {
        "image_size": 16,
        "patch_size": 8,
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    theirs = CLIPModel(CLIPConfig(vision_config=vision, text_config=text))
    config = LoraConfig(
        r=2,
        lora_alpha=3,
        target_modules=r"vision_model.*\.(q_proj|v_proj|out_proj|fc1)",
    )
    torch.manual_seed(0)
    adapted = get_peft_model(theirs, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn(parameter.shape))
    adapted.save_pretrained(tmp_path / "published")
    layer = "vision_model.encoder.layers.1"
    before = {n: p.clone() for n, p in theirs.state_dict().items()}
    found = FAMILY.import_expert(tmp_path / "published", {}, model)
    merged = adapted.merge_and_unload().state_dict()

    def change(name):
        start = before[f"{layer}.{name}.base_layer.weight"]
        return merged[f"{layer}.{name}.weight"] - start

    block = "base.visual.transformer.resblocks.1"
    ours = {n: found[n] - p for n, p in values(model).items()}
    query, key, value = ours[f"{block}.attn.in_proj_weight"].chunk(3)
    for part, name in (
        (query, "self_attn.q_proj"),
        (value, "self_attn.v_proj"),
        (ours[f"{block}.attn.out_proj.weight"], "self_attn.out_proj"),
        (ours[f"{block}.mlp.c_fc.weight"], "mlp.fc1"),
    ):
        assert part.abs().max() > 0.1
        torch.testing.assert_close(part, change(name), rtol=1e-4, atol=1e-5)
    assert not key.any()


def test_the_shapes_of_models_without_memory_are_known():
    for made in (architecture("llama"), ia3("t5"), clip()):
        with torch.device("meta"):
            model = FAMILY.create(made, seed=0)
        model.to("meta")
        FAMILY.freeze(model)
        before = {n: p.shape for n, p in FAMILY.merged_parameters(model).items()}
        blank = {n: t.to("meta") for n, t in FAMILY.example(made).items()}
        with FAMILY.adapting(model, seed=0):
            assert model(blank).is_meta
        after = {n: p.shape for n, p in FAMILY.merged_parameters(model).items()}
        assert after == before
