"""Kinds of layers: what a parameter does in its model, by its name."""

import re

NORM, EMBEDDING, CROSS, ATTENTION, FEED_FORWARD, OTHER = (
    "norm",
    "embedding",
    "cross-attention",
    "attention",
    "feed-forward",
    "other",
)

KINDS = (EMBEDDING, ATTENTION, CROSS, FEED_FORWARD, NORM, OTHER)
"""Every kind, in the order in which a model has them."""

_PATTERNS = {
    # A norm belongs to no other kind, though named after what it is for.
    NORM: r"norm|layrnorm|(^|[._])ln([._\d]|$)",
    CROSS: r"encdec|cross_?att|encoder_att",
    ATTENTION: r"attn|attention|(^|[._])[qkvo]_proj",
    FEED_FORWARD: r"mlp|ffn|feed_?forward|dense|intermediate|(^|[._])(fc\d?|wi|wo)[._]",
    EMBEDDING: r"embed|shared|(^|[._])(wte|wpe|conv1)([._]|$)",
}
"""Kind to what names of its parameters hold, as open_clip's, CLIP's, T5's, BERT's,
GPT-2's and Llama's do; the first that fits."""


def layer_kind(name: str) -> str:
    """Tell what kind of layer a parameter belongs to.

    Args:
        name: the parameter.

    Returns:
        One of `KINDS`; projections and heads outside the layers are `OTHER`.
    """
    lowered = name.lower()
    for kind, pattern in _PATTERNS.items():
        if re.search(pattern, lowered):
            return kind
    return OTHER
