"""The published models that suites of texts start from, as data.

The configurations are those of their `config.json`, so that a plan needs nothing
downloaded. Revisions are ones that hold safetensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mergegrid.published import Published


@dataclass(frozen=True)
class Model:
    """A published model."""

    published: Published
    """Where it is."""

    config: Mapping[str, Any] = field(hash=False)
    """What its configuration says about its shape."""


def _t5(
    kind: str, *, width: int, inner: int, layers: int, heads: int, **more: object
) -> dict[str, Any]:
    return {
        "model_type": kind,
        "d_model": width,
        "d_kv": 64,
        "d_ff": inner,
        "num_layers": layers,
        "num_decoder_layers": layers,
        "num_heads": heads,
        "relative_attention_num_buckets": 32,
        "decoder_start_token_id": 0,
        **more,
    }


_FIRST = {
    "vocab_size": 32_128,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
}
"""T5 as first published (Raffel et al., arXiv:1910.10683)."""

_LATER = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
"""T5 1.1, and what was made of it: gated layers, a head of its own."""

_APACHE = "Apache-2.0"

MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "t5-base": Model(
            Published("google-t5/t5-base", 892_000_000, _APACHE),
            _t5("t5", width=768, inner=3072, layers=12, heads=12, **_FIRST),
        ),
        "t5-large": Model(
            Published(
                "google-t5/t5-large@f17b194fb1b2b3ee4c83b3223532c144e85b9208",
                2_950_000_000,
                _APACHE,
            ),
            _t5("t5", width=1024, inner=4096, layers=24, heads=16, **_FIRST),
        ),
        "t5-large-lm-adapt": Model(
            Published(
                "google/t5-large-lm-adapt@195886f7051b58bcae630f2211362ce6db313e79",
                3_130_000_000,
                _APACHE,
            ),
            _t5(
                "t5",
                width=1024,
                inner=2816,
                layers=24,
                heads=16,
                vocab_size=32_128,
                **_LATER,
            ),
        ),
        "t0-3b": Model(
            Published(
                "bigscience/T0_3B@032a20e775dd500df0a5a7f404466183d67f172b",
                11_400_000_000,
                _APACHE,
            ),
            _t5(
                "t5",
                width=2048,
                inner=5120,
                layers=24,
                heads=32,
                vocab_size=32_128,
                **_LATER,
            ),
        ),
        "mt5-xl-lm-adapt": Model(
            Published(
                "DKYoon/mt5-xl-lm-adapt@928510c9ef66c075e1cdfebe82a66a2ff3b9bdde",
                14_970_000_000,
                _APACHE,
            ),
            _t5(
                "mt5",
                width=2048,
                inner=5120,
                layers=24,
                heads=32,
                vocab_size=250_112,
                **_LATER,
            ),
        ),
    }
)
"""Every one by name."""
