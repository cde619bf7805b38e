"""DELLA against its formulas, entry by entry."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from mergegrid import merge, pieces, reading
from mergegrid.cohort import Cohort
from mergegrid.errors import InputError
from mergegrid.methods.dare import thin
from mergegrid.methods.della import METHOD, della, magnitude_prune
from mergegrid.methods.ties import sign_balance, ties
from mergegrid.places import Place
from mergegrid.randomness import uniform as drawn
from mergegrid.safetensors_files import SafetensorsSource
from mergegrid.sources import InMemory
from mergegrid.streaming import stream

seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(), (1,), (7,), (3, 5), (2, 3, 4), (5, 1), (0,), (0, 4)])
balance_of = METHOD.surveys["balance"].measure


def problem(seed, shape=(4, 6), experts=3, digits=None):
    generator = torch.Generator().manual_seed(seed)
    task_vectors = torch.randn(experts, *shape, generator=generator)
    if digits is not None:  # equal magnitudes and sums of zero, exactly
        task_vectors = (task_vectors * 2**digits).round() / 2**digits
    return task_vectors, torch.rand(experts, *shape, generator=generator)


def rows_of(shape):
    if not shape:
        return [[()]]
    leading = itertools.product(*map(range, shape[:-1]))
    return [[(*row, column) for column in range(shape[-1])] for row in leading]


def pruned_by_hand(task_vectors, uniform, drop_rate, window, rescale):
    vectors, draws = task_vectors.double().numpy(), uniform.double().numpy()
    pruned = np.zeros_like(vectors)
    numbers = np.broadcast_arrays(drop_rate, window, np.zeros(len(vectors)))
    for expert, (vector, drop_rate, window, _) in enumerate(
        zip(vectors, *numbers, strict=True)
    ):
        for places in rows_of(vector.shape):
            ascending = sorted(
                range(len(places)), key=lambda i: (abs(vector[places[i]]), i)
            )
            for rank, index in enumerate(ascending):
                place = places[index]
                dropped = drop_rate
                if len(places) > 1:
                    dropped += window / 2 - window * rank / (len(places) - 1)
                if draws[(expert, *place)] >= dropped:
                    pruned[(expert, *place)] = vector[place] / (1 - dropped)
                    if rescale != "inverse":
                        pruned[(expert, *place)] = vector[place]
        if rescale == "norm" and np.abs(pruned[expert]).sum() > 0:
            pruned[expert] *= np.abs(vector).sum() / np.abs(pruned[expert]).sum()
    return pruned


@given(
    seed=seeds,
    shape=shapes,
    digits=st.sampled_from([None, 0]),
    fractions=st.sampled_from(
        [
            (0.3, 0.14),
            (0.5, 0.9),
            (0.07, 0.14),
            (0.9, 0.0),
            ((0.3, 0.5, 0.9), 0.1),
            (0.4, (0.0, 0.8, 0.3)),
            ((0.3, 0.5, 0.9), (0.6, 0.0, 0.1)),
        ]
    ),
    rescale=st.sampled_from(["inverse", "norm", "none"]),
)
def test_pruning_is_magprune(seed, shape, digits, fractions, rescale):
    task_vectors, uniform = problem(seed, shape, digits=digits)
    drop_rate, window = fractions
    options = {"drop_rate": drop_rate, "window": window, "rescale": rescale}
    pruned = magnitude_prune(task_vectors, uniform, **options)
    assert pruned.dtype == task_vectors.dtype
    assert pruned.shape == task_vectors.shape
    expected = pruned_by_hand(task_vectors, uniform, **options)
    np.testing.assert_allclose(pruned.double().numpy(), expected, rtol=1e-6)


@given(
    seed=seeds,
    shape=shapes,
    drop_rate=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    rescale=st.sampled_from(["inverse", "norm"]),
)
def test_without_a_window_it_is_the_thinning_of_dare(seed, shape, drop_rate, rescale):
    task_vectors, uniform = problem(seed, shape)
    options = {"drop_rate": drop_rate, "rescale": rescale}
    torch.testing.assert_close(
        magnitude_prune(task_vectors, uniform, window=0.0, **options),
        thin(task_vectors, uniform, **options),
        rtol=1e-6,
        atol=0,
    )


def test_a_window_makes_it_something_else():
    task_vectors, uniform = problem(seed=0, shape=(40, 50))
    pruned = magnitude_prune(task_vectors, uniform, drop_rate=0.5, window=0.5)
    thinned = thin(task_vectors, uniform, drop_rate=0.5)
    assert ((pruned != 0) != (thinned != 0)).float().mean().item() > 0.05


def test_it_drops_at_the_probabilities_of_the_ranks_and_keeps_the_expectation():
    draws, drop_rate, window = 4000, 0.5, 0.6
    row = torch.tensor([0.3, -4.0, 1.0, -0.2])
    dropped = torch.tensor([0.6, 0.2, 0.4, 0.8])
    uniform = torch.rand(draws, 4, generator=torch.Generator().manual_seed(0))
    pruned = magnitude_prune(
        row.expand(draws, 4), uniform, drop_rate=drop_rate, window=window
    )
    error = (dropped * (1 - dropped) / draws).sqrt()
    share = (pruned == 0).float().mean(dim=0)
    assert ((share - dropped).abs() < 4 * error).all()
    variance = dropped / (1 - dropped) * row**2
    deviation = (pruned.mean(dim=0) - row) / (variance / draws).sqrt()
    assert deviation.abs().max() < 4
    ratio = pruned.var(dim=0) / variance
    assert ratio.mean().item() == pytest.approx(1, abs=0.1)


def test_of_equal_magnitudes_the_first_counts_as_the_smallest():
    equal = torch.tensor([[1.0, -1.0, 1.0]])
    uniform = torch.full((1, 3), 0.35)
    pruned = magnitude_prune(equal, uniform, drop_rate=0.3, window=0.2)
    assert (pruned != 0).tolist() == [[False, True, True]]


def test_an_entry_is_kept_if_the_draw_equals_the_probability_of_dropping_it():
    uniform = torch.tensor([[0.25, 0.5, 0.75]])
    pruned = magnitude_prune(torch.ones(1, 3), uniform, drop_rate=0.5, window=0.0)
    assert pruned.tolist() == [[0.0, 2.0, 2.0]]


@given(seed=seeds)
def test_a_higher_rate_drops_a_superset(seed):
    task_vectors, uniform = problem(seed)
    previous = torch.ones(task_vectors.shape, dtype=torch.bool)
    for drop_rate in (0.1, 0.3, 0.5, 0.9):
        kept = magnitude_prune(task_vectors, uniform, drop_rate=drop_rate) != 0
        assert not (kept & ~previous).any()
        previous = kept


@given(seed=seeds)
def test_every_row_and_every_expert_is_pruned_by_itself(seed):
    task_vectors, uniform = problem(seed)
    pruned = magnitude_prune(task_vectors, uniform)
    for expert, row in itertools.product(range(3), range(4)):
        alone = magnitude_prune(
            task_vectors[expert, row][None], uniform[expert, row][None]
        )
        assert torch.equal(pruned[expert, row], alone[0])


@given(seed=seeds, order=st.permutations(range(6)))
def test_the_order_of_entries_in_a_row_does_not_matter(seed, order):
    task_vectors, uniform = problem(seed)
    reordered = magnitude_prune(task_vectors[..., order], uniform[..., order])
    expected = magnitude_prune(task_vectors, uniform)[..., order]
    assert torch.equal(reordered, expected)


@given(seed=seeds, factor=st.sampled_from([2.0, -4.0, 0.25]))
def test_a_common_factor_goes_through(seed, factor):
    task_vectors, uniform = problem(seed)
    pruned = magnitude_prune(factor * task_vectors, uniform)
    assert torch.equal(pruned, factor * magnitude_prune(task_vectors, uniform))


def test_rescaling_to_the_norm_leaves_what_is_lost_altogether_at_zero():
    pruned = magnitude_prune(torch.ones(2, 3), torch.zeros(2, 3), rescale="norm")
    assert pruned.tolist() == [[0.0] * 3] * 2


def test_inputs_are_untouched():
    task_vectors, uniform = problem(seed=0)
    before = task_vectors.clone(), uniform.clone()
    magnitude_prune(task_vectors, uniform)
    della(task_vectors, balance_of(task_vectors))
    assert torch.equal(task_vectors, before[0])
    assert torch.equal(uniform, before[1])


@pytest.mark.parametrize(
    ("drop_rate", "window"), [(0.0, 0.14), (0.05, 0.2), (0.9, 0.2)]
)
def test_probabilities_beyond_zero_and_one_are_refused(drop_rate, window):
    with pytest.raises(InputError, match=f"drop_rate = {drop_rate} and window"):
        magnitude_prune(*problem(seed=0), drop_rate=drop_rate, window=window)


def fused_by_hand(pieces, zero_sum, aggregate, weights):
    """Elect and put together; the model's parameters are `pieces`, [expert, entry]."""
    weighted = [np.array(weights)[:, None] * piece for piece in pieces]
    balances = [np.sign(piece.sum(axis=0)).sum() for piece in weighted]
    merged = []
    for piece, balance in zip(weighted, balances, strict=True):
        majority = sum(balances) if zero_sum == "majority" else balance
        substitute = {"strict": 0, "plus": 1}.get(zero_sum, -1 if majority < 0 else 1)
        entries = np.zeros(piece.shape[1])
        for place in range(piece.shape[1]):
            sign = np.sign(piece[:, place].sum()) or substitute
            agreeing = [e for e in range(3) if sign * piece[e, place] > 0]
            if agreeing:
                values = piece[agreeing, place]
                entries[place] = {
                    "mean": values.sum() / sum(weights[e] for e in agreeing),
                    "sum": values.sum(),
                    "max": max(values, key=abs),
                }[aggregate]
        merged.append(entries)
    return merged


@given(
    seed=seeds,
    zero_sum=st.sampled_from(["majority", "tensor_majority", "strict", "plus"]),
    aggregate=st.sampled_from(["mean", "sum", "max"]),
    weights=st.sampled_from([None, (1.0, 0.5, 2.0), (1.0, 0.0, 3.0)]),
    digits=st.sampled_from([None, 0]),
)
def test_election_puts_together_what_agrees(seed, zero_sum, aggregate, weights, digits):
    pieces = [
        problem(seed + i, (size,), digits=digits)[0] for i, size in enumerate((7, 4))
    ]
    merged = []
    for piece in pieces:
        counted = [piece] if zero_sum == "tensor_majority" else pieces
        balance = sum(balance_of(part, weights=weights) for part in counted)
        options = {"zero_sum": zero_sum, "aggregate": aggregate, "weights": weights}
        merged.append(della(piece, balance, **options).double().numpy())
    doubles = [piece.double().numpy() for piece in pieces]
    expected = fused_by_hand(doubles, zero_sum, aggregate, weights or (1.0,) * 3)
    for actual, by_hand in zip(merged, expected, strict=True):
        np.testing.assert_allclose(actual, by_hand, rtol=1e-6, atol=1e-7)


@given(seed=seeds, weights=st.sampled_from([None, (1.0, 0.5, -2.0)]))
def test_without_election_it_is_the_sum(seed, weights):
    task_vectors, _ = problem(seed)
    merged = della(task_vectors, None, election="none", weights=weights)
    factors = torch.tensor(weights or (1.0,) * 3).double()
    expected = torch.einsum("e,eij->ij", factors, task_vectors.double())
    torch.testing.assert_close(merged.double(), expected, rtol=1e-6, atol=1e-6)


@given(seed=seeds)
def test_without_a_window_it_is_dare_with_the_election_of_ties(seed):
    task_vectors, uniform = problem(seed)
    pruned = magnitude_prune(task_vectors, uniform, drop_rate=0.5, window=0.0)
    thinned = thin(task_vectors, uniform, drop_rate=0.5)
    torch.testing.assert_close(
        della(pruned, balance_of(pruned)), ties(thinned, None, sign_balance(thinned))
    )


@given(seed=seeds)
def test_copies_of_one_expert_that_lose_nothing_are_merged_into_it(seed):
    one, uniform = problem(seed, experts=1)
    copies, draws = one.expand(3, -1, -1), uniform.expand(3, -1, -1)
    kept = magnitude_prune(copies, draws, drop_rate=0.0, window=0.0)
    torch.testing.assert_close(della(kept, balance_of(kept)), one[0])
    dropped = magnitude_prune(copies, draws, drop_rate=0.5)
    assert not torch.allclose(della(dropped, balance_of(dropped)), one[0])


@given(seed=seeds, order=st.permutations(range(3)))
def test_the_order_of_experts_does_not_matter(seed, order):
    task_vectors, uniform = problem(seed)
    pruned = magnitude_prune(task_vectors, uniform)
    reordered = magnitude_prune(task_vectors[order], uniform[order])
    assert torch.equal(reordered, pruned[order])
    torch.testing.assert_close(
        della(reordered, balance_of(reordered)), della(pruned, balance_of(pruned))
    )


@pytest.mark.parametrize("shape", [(700, 7), (3, 5000), (9000,), (40, 0), ()])
@pytest.mark.parametrize("options", [{}, {"rescale": "norm"}, {"scope": "tensor"}])
def test_rows_are_pruned_the_same_however_many_are_read_at_a_time(
    tmp_path, monkeypatch, shape, options
):
    monkeypatch.setattr(pieces, "ENTRIES", 2048)
    monkeypatch.setattr(reading, "ENTRIES_IN_CACHE", 1024)
    generator = torch.Generator().manual_seed(0)
    experts = {name: {"w": torch.randn(shape, generator=generator)} for name in "abc"}
    pretrained = {"w": torch.zeros(shape)}
    asked = options | {"election": "none", "scale": 1.0}
    for name, model in experts.items():
        save_file(model, tmp_path / name)
    cohort = Cohort(
        {name: SafetensorsSource([Place.of(str(tmp_path / name))]) for name in experts},
        InMemory(pretrained),
        {},
        seed=3,
        device=torch.device("cpu"),
    )
    written = torch.full(shape, torch.nan)

    class Sink:
        def write(self, name, start, stretch):
            assert name == "w"
            written.view(-1)[start : start + len(stretch)] = stretch

    stream(cohort, METHOD.recipe(asked), {None: Sink()})
    task_vectors = torch.stack([model["w"] for model in experts.values()])
    draws = torch.stack([drawn(3, name, "w", shape) for name in experts])
    kept = {key: value for key, value in options.items() if key == "rescale"}
    expected = magnitude_prune(task_vectors, draws, **kept).sum(dim=0)
    torch.testing.assert_close(written, expected)
    merged = merge(experts, {"method": "della", "options": asked}, pretrained, seed=3)
    assert torch.equal(merged["w"], written)


def test_weights_count_in_the_survey():
    task_vectors = torch.tensor([[3.0], [1.0], [-2.0]])
    assert balance_of(task_vectors).item() == 1
    assert balance_of(task_vectors, weights=(0.5, 0.0, 1.0)).item() == -1


def test_the_survey_is_taken_for_elections_alone():
    survey = METHOD.surveys["balance"]
    assert survey.is_asked(METHOD.recipe().options)
    assert not survey.is_asked(METHOD.recipe({"election": "none"}).options)
    assert survey.is_per_tensor(METHOD.recipe({"zero_sum": "tensor_majority"}).options)


def test_the_record_says_what_the_engine_must_know():
    options = METHOD.recipe().options
    assert METHOD.draws(options)
    assert METHOD.by_rows
    assert not METHOD.is_whole_tensor(options)
    assert METHOD.is_whole_tensor(METHOD.recipe({"rescale": "norm"}).options)
    assert (options["drop_rate"], options["window"], options["scale"]) == (
        0.3,
        0.14,
        1.1,
    )


def test_each_operation_is_counted_once():
    experts, entries = 3, 42
    for options, per_entry in (
        # Prune, differences, sums and signs twice, zero sums, masks, means, scale.
        ({}, 5 * 3 + 3 + 2 * 3 + 2 + 2 * 3 + (2 * 3 - 1) + 2),
        ({"election": "none"}, 5 * 3 + 3 + 2 + 2),
        ({"election": "none", "rescale": "norm"}, 9 * 3 + 3 + 2 + 2),
        ({"election": "none", "rescale": "none"}, 4 * 3 + 3 + 2 + 2),
        ({"aggregate": "sum"}, 5 * 3 + 3 + 2 * 3 + 2 + 2 * 3 + 2 + 2),
        ({"aggregate": "max"}, 5 * 3 + 3 + 2 * 3 + 2 + 2 * 3 + 2 * 3 + 2),
    ):
        counted = METHOD.flops((6, 7), experts, **METHOD.recipe(options).options)
        assert counted == per_entry * entries
    assert METHOD.flops((0,), experts) == 0
    assert math.isfinite(METHOD.flops((), experts))
