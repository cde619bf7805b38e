"""The training loop."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import log_softmax

from mergegrid.errors import InputError
from mergegrid.evaluation import evaluate
from mergegrid.suites.examples import TensorExamples
from mergegrid.training import TrainingSettings, train


class Linear(nn.Module):
    """Logistic regression, with a part that is not trained."""

    def __init__(self, features=4, labels=3):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(
            0.1 * torch.randn(labels, features, generator=generator)
        )
        self.bias = nn.Parameter(torch.zeros(labels))
        self.frozen = nn.Parameter(torch.ones(labels), requires_grad=False)

    def forward(self, batch):
        return log_softmax(batch["input"] @ self.weight.T + self.bias, dim=-1)


def biased():
    model = Linear()
    with torch.no_grad():
        model.bias.copy_(torch.tensor([0.3, -0.2, 0.1]))
    return model


def blobs(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    inputs = torch.randn(count, 4, generator=generator)
    inputs[torch.arange(count), labels] += 3
    return TensorExamples({"input": inputs, "label": labels})


def settings(**options):
    return TrainingSettings(
        **{"steps": 40, "batch_size": 16, "learning_rate": 0.05, "evaluate_every": 10}
        | options
    )


def on(examples):
    return lambda model: evaluate(model, examples)


def trained(seed=0, validation=None, **options):
    model = Linear()
    record = train(
        model,
        blobs(200),
        on(validation or blobs(100, 2)),
        settings(**options),
        seed=seed,
    )
    return model, record


def test_training_raises_accuracy_and_leaves_frozen_parameters_alone():
    model, record = trained()
    assert record.history[0].validation < 0.7
    assert max(look.validation for look in record.history) > 0.9
    assert torch.equal(model.frozen, torch.ones(3))
    assert not model.training


def test_the_same_seed_trains_the_same_parameters_and_another_seed_others():
    first, again, other = trained(seed=5)[0], trained(seed=5)[0], trained(seed=6)[0]
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


def test_one_update_is_adamw_by_hand_on_clipped_gradients():
    examples, start = blobs(8), biased()
    rate, decay, clip_norm = 0.1, 0.5, 1e-8  # so small that Adam's epsilon shows
    loss = -start(examples[:]).gather(1, examples[:]["label"][:, None]).mean()
    gradients = torch.autograd.grad(loss, [start.weight, start.bias])
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
    clipped = [g * clip_norm / (norm + 1e-6) for g in gradients]
    steps = [rate * g / (g.abs() + 1e-8) for g in clipped]
    expected = biased()
    with torch.no_grad():
        expected.weight.copy_(start.weight * (1 - rate * decay) - steps[0])
        expected.bias.copy_(start.bias - steps[1])  # vectors do not decay

    # Validation on which the update is an improvement, or it would be undone.
    inputs = torch.randn(1000, 4, generator=torch.Generator().manual_seed(3))
    answers = expected({"input": inputs}).argmax(dim=-1)
    improved = answers != start({"input": inputs}).argmax(dim=-1)
    validation = TensorExamples({"input": inputs[improved], "label": answers[improved]})
    model = biased()
    options = {"weight_decay": decay, "clip_norm": clip_norm, "steps": 1}
    train(
        model,
        examples,
        on(validation),
        settings(**options, batch_size=8, learning_rate=rate),
        seed=0,
    )
    torch.testing.assert_close(model.weight, expected.weight)
    torch.testing.assert_close(model.bias, expected.bias)


class Drops(Linear):
    """Drops half of its inputs while it is trained."""

    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, batch):
        return super().forward(batch | {"input": self.dropout(batch["input"])})


def test_dropout_draws_from_the_seed_whatever_others_draw_meanwhile():
    def train_one(seed, meanwhile):
        model = Drops()
        train(
            model,
            blobs(50),
            on(blobs(50)),
            settings(steps=5),
            seed=seed,
            progress=meanwhile,
        )
        return model.weight

    alone = train_one(0, None)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    beside = train_one(0, lambda done, _: torch.rand(done))
    assert torch.equal(alone, beside)
    assert not torch.equal(alone, train_one(1, None))
    torch.set_rng_state(before)
    train_one(0, None)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_of_the_best_parameters_are_kept():
    model, record = trained(steps=100, patience=100)
    best = max(look.validation for look in record.history)
    first = next(look.step for look in record.history if look.validation == best)
    assert record.best_step == first
    stopped, _ = trained(steps=100, patience=100)
    with torch.no_grad():
        answers = stopped(blobs(100, 2)[:]).argmax(dim=-1)
    assert (answers == blobs(100, 2)[:]["label"]).float().mean() == pytest.approx(best)
    assert torch.equal(stopped.weight, model.weight)


def test_training_stops_after_looks_without_improvement():
    nonsense = TensorExamples(
        {"input": torch.zeros(4, 4), "label": torch.full((4,), 7) % 3}
    )
    _, record = trained(validation=nonsense, steps=1000, patience=2)
    assert record.steps < 1000
    assert len(record.history) - 1 == record.steps / 10
    after_best = [look for look in record.history if look.step > record.best_step]
    assert len(after_best) == 2


def test_without_steps_nothing_changes():
    model, record = trained(steps=0)
    assert torch.equal(model.weight, Linear().weight)
    assert (record.steps, record.best_step, record.examples) == (0, 0, 0)


def test_the_record_counts_examples():
    _, record = trained(steps=7)
    assert (record.steps, record.examples) == (7, 7 * 16)


def test_an_epoch_sees_every_example_once():
    class Sees(Linear):
        def forward(self, batch):
            if self.training:
                self.seen.append(batch["index"])
            return super().forward(batch)

    model = Sees()
    model.seen = []
    examples = TensorExamples(blobs(24)[:] | {"index": torch.arange(24)})
    train(model, examples, on(examples), settings(steps=6, batch_size=8), seed=0)
    first, second = torch.cat(model.seen).split(24)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(24))
    assert not torch.equal(first, second)


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    schedule = settings(
        steps=110, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1
    )
    assert schedule.learning_rate_at(0) == pytest.approx(0.1)
    assert schedule.learning_rate_at(9) == pytest.approx(1.0)
    assert schedule.learning_rate_at(10) == pytest.approx(1.0)
    assert schedule.learning_rate_at(60) == pytest.approx(0.55)
    assert schedule.learning_rate_at(110) == pytest.approx(0.1)


def test_progress_is_told_about_every_update():
    seen = []
    train(
        Linear(),
        blobs(20),
        on(blobs(20)),
        settings(steps=3),
        seed=0,
        progress=lambda done, of: seen.append((done, of)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_training_on_nothing_or_into_nan_is_refused():
    nothing = TensorExamples(
        {"input": torch.zeros(0, 4), "label": torch.zeros(0, dtype=torch.int64)}
    )
    for examples, validation in ((nothing, blobs(5)), (blobs(5), nothing)):
        with pytest.raises(InputError, match="needs examples"):
            train(Linear(), examples, on(validation), settings(), seed=0)
    broken = TensorExamples(
        {"input": torch.full((5, 4), math.nan), "label": torch.ones(5).long()}
    )
    with pytest.raises(InputError, match=r"loss became nan.*learning rate of 0\.05"):
        train(Linear(), broken, on(blobs(5)), settings(), seed=0)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValidationError, match="learning_rate"):
        settings(learning_rate=0)
