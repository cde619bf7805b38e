"""A small model with attention, and a small open_clip model, with data."""

import pytest
import torch
from torch import nn

from mergegrid.models import get_family
from mergegrid.suites.examples import TensorExamples

TOKENS, WIDTH, LABELS = 4, 6, 3


class Reader(nn.Module):
    """Classifies short texts: tied, reused, frozen, unused and dropped parts in one."""

    def __init__(self, *, batch_first):
        super().__init__()
        self.embedding = nn.Embedding(7, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=batch_first)
        self.norm = nn.LayerNorm(WIDTH)
        self.twice = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Linear(WIDTH, WIDTH).requires_grad_(requires_grad=False)
        self.head = nn.Linear(WIDTH, LABELS)
        self.unused = nn.Linear(2, 2)
        self.batch_first = batch_first

    def forward(self, batch):
        hidden = self.embedding(batch["tokens"])
        given = hidden if self.batch_first else hidden.transpose(0, 1)
        attended, _ = self.attention(given, given, given, need_weights=False)
        attended = attended if self.batch_first else attended.transpose(0, 1)
        hidden = self.norm(hidden + attended)
        hidden = self.dropout(self.twice(self.twice(hidden).tanh()).tanh())
        return self.head(self.frozen(hidden).mean(dim=1)).log_softmax(dim=-1)


@pytest.fixture(params=[True, False], ids=["batch first", "tokens first"])
def reader(request):
    torch.manual_seed(0)
    return Reader(batch_first=request.param)


@pytest.fixture
def texts():
    generator = torch.Generator().manual_seed(1)
    return TensorExamples(
        {
            "tokens": torch.randint(7, (11, TOKENS), generator=generator),
            "label": torch.randint(LABELS, (11,), generator=generator),
        }
    )


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    family = get_family("open_clip")
    architecture = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 16,
            "patch_size": 8,
            "width": 32,
            "head_width": 16,
            "layers": 2,
        },
        "text_cfg": {"width": 16, "heads": 2, "layers": 1},
        "heads": [{"classes": ["a cat", "a dog"]}],
    }
    directory = tmp_path_factory.mktemp("clip")
    family.save(family.create(architecture, seed=0), directory)
    return family.load(directory)


@pytest.fixture(scope="session")
def pictures():
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(256, (6, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return TensorExamples({"image": pixels, "label": torch.arange(6) % 2})
