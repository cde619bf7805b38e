"""What methods need, which parameters they are for, and what becomes of the others."""

from enum import StrEnum


class Need(StrEnum):
    """Something that must exist before a method can run, besides the experts."""

    PRETRAINED = "pretrained"
    """The parameters that all experts were fine-tuned from."""

    FISHER = "fisher"
    """Each expert's diagonal Fisher information: one backward pass per example."""

    GRAM = "gram"
    """Each expert's Gram matrices of layer inputs: one forward pass per example."""

    GRADIENT = "gradient"
    """Each expert's Gram matrices of gradients with respect to layer outputs: one
    backward pass per example."""

    SIGNS = "signs"
    """A sign for every entry, from elsewhere."""

    COEFFICIENTS = "coefficients"
    """A factor on every expert's task vector for each parameter, learned before."""

    TRIM = "trim"
    """Each expert's trim threshold over the whole task vector, for one density."""

    NORMS = "norms"
    """Each expert's L2 norm over the whole model."""


class Coverage(StrEnum):
    """The parameters that a method's mathematics is for."""

    ALL = "all"
    """Every floating-point parameter."""

    LINEAR = "linear"
    """Weights of linear layers: those that have the statistics that are needed."""

    MATRIX = "matrix"
    """Parameters with two axes."""


class Fallback(StrEnum):
    """What becomes of parameters that a method does not cover."""

    AVERAGE = "average"
    """The mean of the experts; for methods with a `scale`, the mean task vector takes
    the merged one's place."""

    PRETRAINED = "pretrained"
    """The pretrained model's."""
