"""The models that the benchmarks merge: what is in them, and where they lie.

Nothing here imports PyTorch, so that who measures other processes stays small.
"""

from collections.abc import Iterator
from pathlib import Path

HIDDEN, INTERMEDIATE, LAYERS, HEADS, VOCABULARY = 512, 1376, 8, 8, 16_000

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}

PRETRAINED = "pretrained"


def layout() -> Iterator[tuple[str, tuple[int, ...]]]:
    """List the parameters of the model.

    Yields:
        Name and shape of each.
    """
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for index in range(LAYERS):
        layer = f"model.layers.{index}"
        for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{layer}.self_attn.{projection}.weight", (HIDDEN, HIDDEN)
        for projection in ("gate_proj", "up_proj"):
            yield f"{layer}.mlp.{projection}.weight", (INTERMEDIATE, HIDDEN)
        yield f"{layer}.mlp.down_proj.weight", (HIDDEN, INTERMEDIATE)
        yield f"{layer}.input_layernorm.weight", (HIDDEN,)
        yield f"{layer}.post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def linear_layers() -> dict[str, int]:
    """List the weights of linear layers.

    Returns:
        Name to the number of inputs.
    """
    return {
        name: shape[1]
        for name, shape in layout()
        if len(shape) == 2 and "embed" not in name
    }


def expert_names(directory: Path) -> list[str]:
    """List the experts in a folder.

    Args:
        directory: the folder that `make_models` wrote.

    Returns:
        Their names, in order.
    """
    found = [path.name for path in directory.glob("expert*")]
    return sorted(found, key=lambda name: int(name.removeprefix("expert")))
