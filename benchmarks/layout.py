"""The models that the benchmarks merge: what is in them, and where they lie.

Nothing here imports PyTorch, so that who measures other processes stays small.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HIDDEN, INTERMEDIATE, LAYERS, HEADS, VOCABULARY = 512, 1376, 8, 8, 16_000

CONFIG: Mapping[str, Any] = {
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


def layout(config: Mapping[str, Any] = CONFIG) -> Iterator[tuple[str, tuple[int, ...]]]:
    """List the parameters of a Llama.

    Args:
        config: its configuration, as Hugging Face writes it.

    Yields:
        Name and shape of each.
    """
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    vocabulary = config["vocab_size"]
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{layer}.self_attn.{projection}.weight", (hidden, hidden)
        for projection in ("gate_proj", "up_proj"):
            yield f"{layer}.mlp.{projection}.weight", (inner, hidden)
        yield f"{layer}.mlp.down_proj.weight", (hidden, inner)
        yield f"{layer}.input_layernorm.weight", (hidden,)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (vocabulary, hidden)


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
