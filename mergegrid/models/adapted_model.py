"""Models with adapters: what their base models do, whatever has been put into them."""

from torch import Tensor, nn

from mergegrid.metrics import Chooses, Writes
from mergegrid.models.adapter_kinds import AdapterArchitecture
from mergegrid.statistics.gram import MasksTokens
from mergegrid.suites.examples import Batch

BASE = "base"
"""Where the base model is, and what its parameters' names begin with."""


class AdaptedModel(nn.Module):
    """A model of another family, of which adapters are trained and merged.

    Args:
        base: the model.
        architecture: what it is made from.
    """

    def __init__(self, base: nn.Module, architecture: AdapterArchitecture) -> None:
        super().__init__()
        self.base = base
        self.architecture = architecture

    def forward(self, batch: Batch) -> Tensor:
        """Answer as the base model does.

        Args:
            batch: what it takes.

        Returns:
            Its log-probabilities.
        """
        return self.base(batch)

    def rank(self, batch: Batch) -> Tensor:
        """Score answer choices as the base model does.

        Args:
            batch: see `mergegrid.metrics.Chooses`.

        Returns:
            Log-likelihoods.
        """
        assert isinstance(self.base, Chooses), "it ranks no choices"
        return self.base.rank(batch)

    def write(self, batch: Batch) -> list[str]:
        """Answer questions as the base model does.

        Args:
            batch: the questions.

        Returns:
            An answer for each.
        """
        assert isinstance(self.base, Writes), "it writes nothing"
        return self.base.write(batch)

    def token_mask(self, name: str, batch: Batch) -> Tensor | None:
        """Tell padding from tokens as the base model does.

        Args:
            name: a linear layer's weight.
            batch: what the model was given.

        Returns:
            True for tokens; None if none of them is padding.
        """
        if not isinstance(self.base, MasksTokens):
            return None
        return self.base.token_mask(name.removeprefix(f"{BASE}."), batch)
