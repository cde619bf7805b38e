import pytest

from mergegrid.layer_kinds import KINDS, layer_kind

NAMES = {
    "embedding": [
        "visual.class_embedding",
        "visual.positional_embedding",
        "visual.conv1.weight",
        "vision_model.embeddings.patch_embedding.weight",
        "shared.weight",
        "transformer.wte.weight",
        "bert.embeddings.word_embeddings.weight",
        "model.embed_tokens.weight",
    ],
    "attention": [
        "visual.transformer.resblocks.0.attn.in_proj_weight",
        "encoder.block.3.layer.0.SelfAttention.q.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "bert.encoder.layer.0.attention.output.dense.weight",
        "transformer.h.1.attn.c_proj.bias",
        "model.layers.7.self_attn.o_proj.weight",
        "layers.1.q_proj.weight",
    ],
    "cross-attention": [
        "decoder.block.1.layer.1.EncDecAttention.v.weight",
        "model.decoder.layers.0.encoder_attn.k_proj.weight",
        "transformer.h.0.crossattention.c_attn.weight",
    ],
    "feed-forward": [
        "visual.transformer.resblocks.0.mlp.c_fc.weight",
        "encoder.block.3.layer.1.DenseReluDense.wi_0.weight",
        "bert.encoder.layer.0.intermediate.dense.bias",
        "model.layers.7.mlp.gate_proj.weight",
        "model.decoder.layers.0.fc1.weight",
    ],
    "norm": [
        "visual.ln_pre.weight",
        "visual.transformer.resblocks.0.ln_1.bias",
        "vision_model.pre_layrnorm.weight",
        "encoder.block.3.layer.0.layer_norm.weight",
        "bert.encoder.layer.0.attention.output.LayerNorm.weight",
        "model.decoder.layers.0.self_attn_layer_norm.bias",
        "model.layers.7.input_layernorm.weight",
        "transformer.ln_f.weight",
    ],
    "other": ["visual.proj", "logit_scale", "lm_head.weight", "classifier.bias"],
}


@pytest.mark.parametrize("kind", NAMES)
def test_parameters_of_known_families_are_of_their_kind(kind):
    assert {name: layer_kind(name) for name in NAMES[kind]} == dict.fromkeys(
        NAMES[kind], kind
    )


def test_every_kind_has_a_name_to_it():
    assert NAMES.keys() == set(KINDS)
