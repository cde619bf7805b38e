"""TIES against Algorithm 1 of its paper, on the flat vector of the whole model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid import merge, surveying
from mergegrid.errors import InputError
from mergegrid.methods.needs import Need
from mergegrid.methods.ties import METHOD, elect, sign_balance, ties
from mergegrid.statistics.trim import trim_thresholds

seeds = st.integers(0, 2**32 - 1)
SHAPES = {"a": (3, 5), "b": (7,), "c": ()}


def problem(seed, number=4, digits=None):
    generator = torch.Generator().manual_seed(seed)
    pretrained = {
        name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()
    }
    experts = []
    for _ in range(number):
        change = {
            name: torch.randn(shape, generator=generator)
            for name, shape in SHAPES.items()
        }
        if digits is not None:  # equal magnitudes and sums of zero, exactly
            pretrained = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
            change = {
                name: (tensor * 2**digits).round() / 2**digits
                for name, tensor in change.items()
            }
        experts.append({name: pretrained[name] + change[name] for name in SHAPES})
    return experts, pretrained


def flat(model):
    return np.concatenate([model[name].double().numpy().ravel() for name in "abc"])


def trimmed(task_vector, density, selection):
    count = math.floor(density * len(task_vector) + 1e-9)
    count = max(count, int(selection == "at_least_one"))
    order = np.argsort(-np.abs(task_vector), kind="stable")
    kept = np.zeros(len(task_vector), dtype=bool)
    kept[order[:count]] = True
    if selection == "threshold":
        kept = np.abs(task_vector) >= np.abs(task_vector[order[max(count, 1) - 1]])
    return np.where(kept, task_vector, 0.0)


def reference(
    task_vectors,
    density=0.2,
    selection="exact",
    zero_sum="majority",
    aggregate="mean",
    pieces=None,
):
    densities = np.broadcast_to(density, len(task_vectors))
    kept = np.array(
        [
            trimmed(vector, own, selection)
            for vector, own in zip(task_vectors, densities, strict=True)
        ]
    )
    sums = kept.sum(axis=0)
    majority = 1 if np.sign(sums).sum() >= 0 else -1
    merged = np.zeros(len(sums))
    for place, total in enumerate(sums):
        sign = np.sign(total)
        if sign == 0 and zero_sum == "majority":
            sign = majority
        elif sign == 0 and zero_sum == "tensor_majority":
            (piece,) = [piece for piece in pieces if place in piece]
            sign = 1 if np.sign(sums[list(piece)]).sum() >= 0 else -1
        elif sign == 0 and zero_sum == "plus":
            sign = 1
        agreeing = [x for x in kept[:, place] if x != 0 and np.sign(x) == sign]
        if agreeing:
            merged[place] = {
                "mean": np.mean(agreeing),
                "sum": np.sum(agreeing),
                "max": max(agreeing, key=abs),
            }[aggregate]
    return merged


PIECES = (range(15), range(15, 22), range(22, 23))
zero_sums = st.sampled_from(["majority", "tensor_majority", "strict", "plus"])
aggregates = st.sampled_from(["mean", "sum", "max"])
selections = st.sampled_from(["exact", "at_least_one", "threshold"])
densities = st.sampled_from([0.02, 0.1, 0.2, 0.5, 0.9, 1.0])


@given(
    seed=seeds,
    density=densities | st.tuples(*[densities] * 4),
    selection=selections,
    zero_sum=zero_sums,
    aggregate=aggregates,
    digits=st.sampled_from([None, 0, 1]),
    scale=st.sampled_from([0.3, 1.0]),
)
def test_is_algorithm_1(seed, density, selection, zero_sum, aggregate, digits, scale):
    experts, pretrained = problem(seed, digits=digits)
    options = {
        "density": density,
        "selection": selection,
        "zero_sum": zero_sum,
        "aggregate": aggregate,
    }
    recipe = {"method": "ties", "options": {**options, "scale": scale}}
    merged = merge(experts, recipe, pretrained)
    # In float32, as the library takes differences, since a rank turns on the last bit.
    task_vectors = [
        flat({name: expert[name] - pretrained[name] for name in SHAPES})
        for expert in experts
    ]
    expected = flat(pretrained) + scale * reference(
        task_vectors, pieces=PIECES, **options
    )
    np.testing.assert_allclose(flat(merged), expected, rtol=1e-5, atol=1e-5)


def merged_change(*task_vectors, **options):
    pretrained = {"a": torch.zeros(len(task_vectors[0]))}
    experts = [{"a": torch.tensor(vector)} for vector in task_vectors]
    recipe = {"method": "ties", "options": {"density": 1, **options}}
    return merge(experts, recipe, pretrained)["a"].tolist()


@pytest.mark.parametrize(
    ("zero_sum", "expected"),
    [("majority", -2.0), ("tensor_majority", -2.0), ("plus", 2.0), ("strict", 0.0)],
)
def test_the_rule_for_zero_sums_decides_where_experts_cancel(zero_sum, expected):
    merged = merged_change([2.0, -1.0], [-2.0, -1.0], zero_sum=zero_sum)
    assert merged == [expected, -1.0]


@given(seed=seeds)
def test_an_expert_that_is_the_pretrained_model_changes_nothing(seed):
    experts, pretrained = problem(seed)
    merged = merge([*experts, pretrained], "ties", pretrained)
    torch.testing.assert_close(merged, merge(experts, "ties", pretrained))


@given(seed=seeds)
def test_every_expert_twice_changes_nothing_but_a_sum(seed):
    experts, pretrained = problem(seed)
    merged = merge(experts * 2, "ties", pretrained)
    torch.testing.assert_close(merged, merge(experts, "ties", pretrained))
    once, twice = (
        flat(
            merge(
                copies, {"method": "ties", "options": {"aggregate": "sum"}}, pretrained
            )
        )
        - flat(pretrained)
        for copies in (experts, experts * 2)
    )
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-4, atol=1e-5)


@given(seed=seeds)
def test_without_conflict_or_trimming_it_is_the_mean(seed):
    experts, pretrained = problem(seed)
    agreeing = [
        {
            name: pretrained[name] + (expert[name] - pretrained[name]).abs() + 1e-3
            for name in SHAPES
        }
        for expert in experts
    ]
    recipe = {"method": "ties", "options": {"density": 1}}
    torch.testing.assert_close(
        merge(agreeing, recipe, pretrained),
        merge(agreeing, "average"),
        rtol=1e-5,
        atol=1e-5,
    )


@given(seed=seeds, aggregate=st.sampled_from(["mean", "max"]))
def test_no_entry_moves_further_than_with_the_expert_that_moves_it_most(
    seed, aggregate
):
    experts, pretrained = problem(seed)
    recipe = {"method": "ties", "options": {"density": 0.6, "aggregate": aggregate}}
    change = np.abs(flat(merge(experts, recipe, pretrained)) - flat(pretrained))
    largest = np.max([np.abs(flat(e) - flat(pretrained)) for e in experts], axis=0)
    assert (change <= largest + 1e-5).all()


def test_equal_magnitudes_are_kept_in_order_up_to_the_count():
    pretrained = {"a": torch.zeros(2), "b": torch.zeros(2)}
    expert = {"a": torch.tensor([1.0, -1.0]), "b": torch.tensor([1.0, 1.0])}
    for selection, kept in (("exact", [1, -1, 1, 0]), ("threshold", [1, -1, 1, 1])):
        options = {"density": 0.75, "selection": selection}
        merged = merge([expert], {"method": "ties", "options": options}, pretrained)
        assert [*merged["a"].tolist(), *merged["b"].tolist()] == kept


def test_thresholds_that_were_measured_before_are_used():
    experts, pretrained = problem(seed=3)
    named = {str(index): expert for index, expert in enumerate(experts)}
    measured = {
        name: trim_thresholds(
            {key: expert[key] - pretrained[key] for key in SHAPES}, [0.2, 0.6]
        )
        for name, expert in named.items()
    }
    for density in (0.2, 0.6):
        recipe = {"method": "ties", "options": {"density": density}}
        merged = merge(named, recipe, pretrained, {Need.TRIM: measured})
        computed = merge(named, recipe, pretrained)
        torch.testing.assert_close(merged, computed, rtol=0, atol=0)
    by_tensor = {"method": "ties", "options": {"scope": "tensor"}}
    torch.testing.assert_close(
        merge(named, by_tensor, pretrained, {Need.TRIM: measured}),
        merge(named, by_tensor, pretrained),
        rtol=0,
        atol=0,
    )
    swapped = {name: {0.2: measured[name][0.6]} for name in named}
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            merge(named, "ties", pretrained, {Need.TRIM: swapped}),
            merge(named, "ties", pretrained),
        )


def tensors(seed, sizes=(7, 4), number=3, digits=None):
    """Make trimmed task vectors of a model with parameters of some sizes."""
    generator = torch.Generator().manual_seed(seed)
    pieces = []
    for size in sizes:
        piece = torch.randn(number, size, generator=generator)
        if digits is not None:
            piece = (piece * 2**digits).round() / 2**digits
        pieces.append(piece * (torch.rand(number, size, generator=generator) < 0.7))
    return pieces


def agreed_by_hand(piece, signs, aggregate, weights):
    """Merge [expert, entry] where entries have the given signs."""
    weighted = np.array(weights)[:, None] * piece
    merged = np.zeros(piece.shape[1])
    for place, sign in enumerate(signs):
        agreeing = [e for e in range(len(piece)) if weighted[e, place] * sign > 0]
        if agreeing:
            values = weighted[agreeing, place]
            total = sum(weights[e] for e in agreeing)
            merged[place] = {
                "mean": values.sum() / (total if abs(total) > 1e-8 else 1),
                "sum": values.sum(),
                "max": max(values, key=abs),
            }[aggregate]
    return merged


def elected_by_hand(pieces, zero_sum, weights):
    signs = [
        np.sign((np.array(weights)[:, None] * piece).sum(axis=0)) for piece in pieces
    ]
    total = sum(sign.sum() for sign in signs)
    for sign in signs:
        majority = total if zero_sum == "majority" else sign.sum()
        substitute = {"strict": 0, "plus": 1}.get(zero_sum, -1 if majority < 0 else 1)
        sign[sign == 0] = substitute
    return signs


weightings = st.sampled_from([None, (1.0, 0.5, 2.0), (1.0, 0.0, 3.0), (1.0, -1.0, 2.0)])


@given(
    seed=seeds,
    zero_sum=zero_sums,
    aggregate=aggregates,
    weights=weightings,
    digits=st.sampled_from([None, 0, 1]),
)
def test_one_parameter_is_merged_where_experts_agree(
    seed, zero_sum, aggregate, weights, digits
):
    pieces = tensors(seed, digits=digits)
    options = {"zero_sum": zero_sum, "aggregate": aggregate, "weights": weights}
    doubles = [piece.double().numpy() for piece in pieces]
    factors = weights or (1.0, 1.0, 1.0)
    elected = elected_by_hand(doubles, zero_sum, factors)
    for piece, double, signs in zip(pieces, doubles, elected, strict=True):
        counted = [piece] if zero_sum == "tensor_majority" else pieces
        balance = sum(sign_balance(part, weights=weights) for part in counted)
        merged = ties(piece, None, balance, **options)
        assert merged.dtype == piece.dtype
        expected = agreed_by_hand(double, signs, aggregate, factors)
        np.testing.assert_allclose(merged.numpy(), expected, rtol=1e-6, atol=1e-6)


@given(seed=seeds, aggregate=aggregates, weights=weightings)
def test_given_signs_take_the_place_of_elected_ones(seed, aggregate, weights):
    (piece,) = tensors(seed, sizes=(12,))
    signs = torch.tensor([-1.0, 0.0, 1.0]).repeat(4)
    merged = ties(
        piece, signs, None, election="given", aggregate=aggregate, weights=weights
    )
    expected = agreed_by_hand(
        piece.double().numpy(), signs.tolist(), aggregate, weights or (1.0, 1.0, 1.0)
    )
    np.testing.assert_allclose(merged.numpy(), expected, rtol=1e-6, atol=1e-6)
    assert not merged[signs == 0].any()


def test_given_signs_may_be_those_of_the_minority():
    trimmed = torch.tensor([[3.0], [1.0], [-2.0]])
    assert ties(trimmed, torch.tensor([-1.0]), None, election="given").item() == -2
    assert ties(trimmed, None, sign_balance(trimmed)).item() == 2


@given(seed=seeds, aggregate=aggregates)
def test_elected_signs_that_are_given_change_nothing(seed, aggregate):
    (piece,) = tensors(seed, sizes=(12,))
    balance = sign_balance(piece)
    given_again = ties(
        piece, elect(piece, balance), None, election="given", aggregate=aggregate
    )
    assert torch.equal(given_again, ties(piece, None, balance, aggregate=aggregate))


@given(seed=seeds, zero_sum=zero_sums, digits=st.sampled_from([None, 0]))
def test_signs_are_elected_by_mass(seed, zero_sum, digits):
    (piece,) = tensors(seed, sizes=(12,), digits=digits)
    elected = elect(piece, sign_balance(piece), zero_sum=zero_sum)
    (expected,) = elected_by_hand([piece.double().numpy()], zero_sum, (1.0, 1.0, 1.0))
    assert elected.tolist() == expected.tolist()
    assert elected.dtype == piece.dtype


def test_a_sum_that_float32_may_round_to_zero_is_none():
    # Added up from the first to the last in float32, these cancel; they do not.
    trimmed = torch.tensor([[0.1, 1.0], [0.2, 1.0], [-0.3, 1.0]])
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        merged = ties(trimmed[order], None, sign_balance(trimmed[order]))
        assert merged.tolist() == pytest.approx([-0.3, 1.0])


def test_weights_count_in_the_election():
    trimmed = torch.tensor([[3.0], [1.0], [-2.0]])
    weights = (0.5, 0.0, 1.0)
    assert sign_balance(trimmed).item() == 1
    assert sign_balance(trimmed, weights=weights).item() == -1
    merged = ties(trimmed, None, sign_balance(trimmed), weights=weights)
    assert merged.item() == -2


def test_a_mean_is_divided_by_the_weights_of_what_agrees():
    trimmed = torch.tensor([[3.0], [1.0], [-2.0]])
    weights = (1.0, 3.0, 1.0)
    merged = ties(trimmed, None, sign_balance(trimmed), weights=weights)
    assert merged.item() == (3 + 3 * 1) / (1 + 3)


@given(seed=seeds, common=st.floats(0.1, 10))
def test_equal_weights_change_nothing_in_a_mean(seed, common):
    (piece,) = tensors(seed, sizes=(12,))
    balance = sign_balance(piece)
    weighted = ties(piece, None, balance, weights=(common,) * 3)
    torch.testing.assert_close(weighted, ties(piece, None, balance))


def test_weights_that_do_not_fit_the_experts_are_refused():
    (piece,) = tensors(seed=0, sizes=(3,))
    with pytest.raises(InputError, match="3 experts, but 1 value of weights"):
        ties(piece, None, sign_balance(piece), weights=(1.0,))


@given(seed=seeds, parts=st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_the_balance_of_parts_adds_up(seed, parts):
    pieces = tensors(seed, sizes=parts)
    together = sign_balance(torch.cat(pieces, dim=1))
    assert sum(sign_balance(piece) for piece in pieces) == together


@given(seed=seeds, factor=st.sampled_from([2.0, -4.0]), aggregate=aggregates)
def test_a_common_factor_goes_through(seed, factor, aggregate):
    (piece,) = tensors(seed, sizes=(12,))
    options = {"zero_sum": "strict", "aggregate": aggregate}
    merged = ties(piece, None, None, **options)
    assert torch.equal(ties(factor * piece, None, None, **options), factor * merged)


@given(seed=seeds, order=st.permutations(range(12)))
def test_the_order_of_entries_does_not_matter(seed, order):
    (piece,) = tensors(seed, sizes=(12,), digits=0)
    balance = sign_balance(piece)
    merged = ties(piece, None, balance)
    assert torch.equal(ties(piece[:, order], None, balance), merged[order])


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 3, 4)])
@pytest.mark.parametrize("number", [1, 3])
def test_tensors_may_have_any_shape(shape, number):
    trimmed = torch.rand(number, *shape) + 1
    merged = ties(trimmed, None, sign_balance(trimmed))
    torch.testing.assert_close(merged, trimmed.mean(dim=0))


def test_inputs_are_untouched():
    (piece,) = tensors(seed=0, sizes=(12,))
    before = piece.clone()
    for aggregate in ("mean", "sum", "max"):
        ties(piece, None, sign_balance(piece), aggregate=aggregate).fill_(7)
    assert torch.equal(piece, before)


def test_signs_are_needed_where_they_are_given():
    assert Need.SIGNS in METHOD.needs_of(METHOD.recipe({"election": "given"}).options)
    assert Need.SIGNS not in METHOD.needs_of(METHOD.recipe().options)


def test_the_balance_is_surveyed_where_the_rule_for_zero_sums_asks_for_it():
    survey = METHOD.surveys["balance"]
    for zero_sum, is_asked, is_per_tensor in (
        ("majority", True, False),
        ("tensor_majority", True, True),
        ("strict", False, False),
        ("plus", False, False),
    ):
        chosen = METHOD.recipe({"zero_sum": zero_sum}).options
        assert survey.is_asked(chosen) is is_asked
        assert survey.is_per_tensor(chosen) is is_per_tensor


def test_a_tensor_may_keep_one_entry_where_its_share_is_less():
    pretrained = {"a": torch.zeros(3), "b": torch.zeros(())}
    expert = {"a": torch.tensor([1.0, -3.0, 2.0]), "b": torch.tensor(5.0)}
    for selection, kept in (
        ("exact", [0, 0, 0, 0]),
        ("at_least_one", [0, -3, 0, 5]),
    ):
        options = {"density": 0.3, "scope": "tensor", "selection": selection}
        merged = merge([expert], {"method": "ties", "options": options}, pretrained)
        assert [*merged["a"].tolist(), merged["b"].item()] == kept


@pytest.mark.parametrize("density", [1.0, (1.0, 1.0, 1.0, 1.0)])
@pytest.mark.parametrize("scope", ["model", "tensor"])
def test_nothing_is_counted_where_everything_is_kept(density, scope, monkeypatch):
    experts, pretrained = problem(seed=0)
    options = {"density": density, "scope": scope}
    assert Need.TRIM not in METHOD.needs_of(METHOD.recipe(options).options)

    def refuse(*_, **__):
        raise AssertionError("thresholds were asked for")

    monkeypatch.setattr(surveying, "thresholds_of", refuse)
    merge(experts, {"method": "ties", "options": options}, pretrained)
    less = {"method": "ties", "options": {**options, "density": 0.9}}
    with pytest.raises(AssertionError, match="asked for"):
        merge(experts, less, pretrained)
