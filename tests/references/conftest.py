"""Models for references by hand, and what compares these with the library.

A reference is a function: slow, obvious, in float64, from its method's paper. It takes
a `Problem` and the options that `mergegrid.merge` takes, and gives merged parameters by
name; of methods with a scale, the merged task vector before scaling; of methods with a
model for each task, one for each expert.
"""

import math
from fractions import Fraction
from typing import Annotated, Literal, get_args, get_origin

import numpy as np
import pytest
import torch

from mergegrid import merge
from mergegrid.finish import FINISHING
from mergegrid.methods import METHODS
from mergegrid.methods.needs import Need
from mergegrid.randomness import uniform

SHAPES = {"a.weight": (5, 6), "b.bias": (4,), "b.weight": (4, 5), "c": ()}


class Problem:
    """Models and all that was measured on them, random, in numbers of float32."""

    def __init__(self, seed, experts):
        self.shapes = SHAPES
        self.linear = ("a.weight", "b.weight")
        random = np.random.default_rng(seed)

        def normal(*shape):
            return random.normal(size=shape).astype(np.float32)

        def gram(rows):
            return rows.swapaxes(1, 2) @ rows / rows.shape[1]

        shapes = self.shapes.items()
        self.names = [f"expert {index}" for index in range(experts)]
        self.pretrained = {n: normal(*shape) for n, shape in shapes}
        self.experts = {
            n: self.pretrained[n] + normal(experts, *shape) / 2 for n, shape in shapes
        }
        self.fisher = {n: normal(experts, *shape) ** 2 for n, shape in shapes}
        self.grams, self.gradients = (
            {n: gram(normal(experts, 30, self.shapes[n][axis])) for n in self.linear}
            for axis in (1, 0)
        )
        self.coefficients = {n: normal(experts) for n in self.shapes}
        self.signs = {n: np.sign(normal(*shape)) for n, shape in shapes}
        # In float32, as the library takes them: ranks turn on the last digit.
        self.changes = {
            n: (self.experts[n] - self.pretrained[n]).astype(float) for n in self.shapes
        }
        self.wide = {n: self.experts[n].astype(float) for n in self.shapes}

    def draws(self, purpose=""):
        """What is drawn for every entry: the one thing that cannot be made up here."""
        return {
            n: np.array([uniform(0, e, n + purpose, shape) for e in self.names])
            for n, shape in self.shapes.items()
        }

    @staticmethod
    def each(value, experts):
        return list(value) if isinstance(value, tuple) else [value] * experts

    @staticmethod
    def share(fraction, count):
        return math.floor(Fraction(str(fraction)) * count)

    @staticmethod
    def total(changes):
        return {name: vectors.sum(axis=0) for name, vectors in changes.items()}

    def weighted_by(self, models, factors):
        """Multiply every tensor of every expert by a factor of its own."""
        return {
            n: values * factors[n].reshape(-1, *(1,) * len(self.shapes[n]))
            for n, values in models.items()
        }

    def weighted(self, changes, weights):
        factors = self.each(1.0 if weights is None else tuple(weights), len(self.names))
        return {
            n: np.array([f * v for f, v in zip(factors, vectors, strict=True)])
            for n, vectors in changes.items()
        }

    def parts(self, scope):
        """What counts as a model: all parameters, or each by itself."""
        whole = [*self.shapes]
        return [whole] if scope == "model" else [[name] for name in whole]

    def rows(self, model, names):
        """A model as one vector for each expert."""
        flat = [model[name].reshape(len(model[name]), -1) for name in names]
        return np.concatenate(flat, axis=1)

    def split(self, vectors, names):
        """The opposite of `rows`."""
        ends = np.cumsum([math.prod(self.shapes[name]) for name in names])[:-1]
        pieces = np.split(vectors, ends, axis=1)
        return {
            name: piece.reshape(-1, *self.shapes[name])
            for name, piece in zip(names, pieces, strict=True)
        }

    def split_one(self, vector, names):
        return {n: values[0] for n, values in self.split(vector[None], names).items()}

    def trimmed(self, changes, density, selection="exact", scope="model"):
        """TIES' first step: a fraction of a model's entries is kept."""
        kept = {}
        draws = self.draws("/selection")
        for names in self.parts(scope):
            vectors = self.rows(changes, names)
            ranked = np.abs(vectors)
            if selection == "random":
                ranked = self.rows(draws, names)
            densities = self.each(density, len(vectors))
            masks = []
            for values, fraction in zip(ranked, densities, strict=True):
                count = self.share(fraction, len(values))
                count = max(count, 1) if selection == "at_least_one" else count
                order = np.argsort(-values, kind="stable")
                is_kept = np.isin(np.arange(len(values)), order[:count])
                if selection == "threshold":
                    is_kept = values >= values[order[count - 1]]
                masks.append(is_kept)
            kept |= self.split(np.where(masks, vectors, 0), names)
        return kept

    def elected(self, changes, zero_sum="majority", scope="model"):
        """TIES' second step: the sign of the larger mass."""
        signs = {name: np.sign(summed) for name, summed in self.total(changes).items()}
        balance = sum(values.sum() for values in signs.values())
        is_own = scope == "tensor" or zero_sum == "tensor_majority"
        for name, values in signs.items():
            majority = -1 if (values.sum() if is_own else balance) < 0 else 1
            substitute = {"strict": 0, "plus": 1}.get(zero_sum, majority)
            signs[name] = np.where(values == 0, substitute, values)
        return signs

    def agreed(self, changes, signs, aggregate="mean", weights=None):
        """TIES' last step: what has the elected sign is merged."""
        factors = np.ones(len(self.names)) if weights is None else np.array(weights)
        merged = {}
        for name, vectors in changes.items():
            flat, sign = vectors.reshape(len(vectors), -1), signs[name].reshape(-1)
            result = np.zeros(len(sign))
            for place in range(len(sign)):
                chosen = flat[:, place] * sign[place] > 0
                if chosen.any():
                    values = flat[chosen, place]
                    result[place] = {
                        "mean": values.sum() / factors[chosen].sum(),
                        "sum": values.sum(),
                        "max": values[np.argmax(np.abs(values))],
                    }[aggregate]
            merged[name] = result.reshape(self.shapes[name])
        return merged


def flat(model):
    return np.concatenate([model[name].reshape(-1) for name in SHAPES])


def by_library(problem, method, options):
    """Merge in the library: a vector for every task, or one."""

    def tensors(model, index=...):
        return {n: torch.tensor(values[index]) for n, values in model.items()}

    def of_experts(model):
        return {e: tensors(model, index) for index, e in enumerate(problem.names)}

    statistics = {
        Need.FISHER: of_experts(problem.fisher),
        Need.GRAM: of_experts(problem.grams),
        Need.GRADIENT: of_experts(problem.gradients),
        Need.SIGNS: {"any": tensors(problem.signs)},
        Need.COEFFICIENTS: {"any": tensors(problem.coefficients)},
    }
    tasks = problem.names if METHODS[method].per_task else [None]
    models = [
        merge(
            of_experts(problem.experts),
            METHODS[method].recipe(options),
            tensors(problem.pretrained),
            statistics,
            task=task,
        )
        for task in tasks
    ]
    return [flat({n: t.double().numpy() for n, t in m.items()}) for m in models]


def by_hand(problem, method, options, function):
    """The same by a reference."""
    record, found = METHODS[method], function(problem, **options)
    if record.scale is None:
        return [flat(found)]
    return [
        flat(
            {
                n: problem.pretrained[n].astype(float) + record.scale * change[expert]
                for n, change in found.items()
            }
        )
        for expert in (range(len(problem.names)) if record.per_task else [...])
    ]


@pytest.fixture(scope="session")
def compare():
    """Check that the library merges as a reference does."""

    def check(function, options, *, tolerance=1e-6):
        method = function.__name__
        problem = Problem(0, METHODS[method].experts[1] or 3)
        found = by_library(problem, method, options)
        for one, other in zip(
            found, by_hand(problem, method, options, function), strict=True
        ):
            distance = np.linalg.norm(one - other) / np.linalg.norm(other)
            assert distance < tolerance

    return check


def literals(annotation):
    """The values that an option may have, if they can be counted."""
    if annotation is bool:
        return {True, False}
    if get_origin(annotation) is Annotated:
        return literals(get_args(annotation)[0])
    return {*get_args(annotation)} if get_origin(annotation) is Literal else set()


@pytest.fixture(scope="session")
def check_options():
    """Check that every option of a method occurs in its cases, with every value."""

    def check(method, cases):
        record = METHODS[method]
        defaults = record.recipe().options
        chosen = [defaults, *({**defaults, **options} for options in cases)]
        for name, schema in record.options.model_fields.items():
            if name in {*FINISHING, *record.learned_options}:
                continue  # see tests/test_finish.py, and tests/learning
            values = {options[name] for options in chosen}
            assert len(values) > 1, f"{method} has no case with another {name}"
            missing = literals(schema.annotation) - values
            assert not missing, f"{method} has no case with {name} in {missing}"
            if "tuple" in str(schema.annotation):
                assert any(isinstance(value, tuple) for value in values), (
                    f"{method} has no case with a {name} for each expert"
                )

    return check
