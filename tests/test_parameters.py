import pytest
import torch

from mergegrid.errors import InputError, LayoutError, NonFiniteError
from mergegrid.parameters import Role, check_models, role, untie


def model(**tensors):
    return {"a": torch.ones(2, 3), "b": torch.ones(2), **tensors}


def checked(**changes):
    other = {
        name: tensor for name, tensor in model(**changes).items() if tensor.numel()
    }
    check_models({"expert 'x'": model(), "expert 'y'": other})


def test_models_of_one_layout_pass():
    checked()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"c": torch.ones(1)},
            "The expert 'y' has a parameter 'c', the expert 'x' has",
        ),
        (
            {"b": torch.ones(0)},
            "The expert 'x' has a parameter 'b', the expert 'y' has",
        ),
        (
            {"a": torch.ones(3, 2)},
            r"'y' has 'a' with shape \(3, 2\), .* shape \(2, 3\)",
        ),
        ({"a": torch.ones(2, 3).half()}, "'y' has 'a' in float16, .* in float32"),
    ],
)
def test_a_difference_in_layout_is_named(changes, message):
    with pytest.raises(LayoutError, match=message):
        checked(**changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_named(value):
    with pytest.raises(
        NonFiniteError, match=r"expert 'y' has NaN or infinity in .* 'b'"
    ):
        checked(b=torch.tensor([1.0, value]))


def test_integers_that_differ_are_refused():
    first, second = (model(ids=torch.tensor(ids)) for ids in ([0, 1, 2], [0, 1, 3]))
    check_models({"x": first, "y": first})
    with pytest.raises(LayoutError, match="differ in 'ids', which holds int64"):
        check_models({"x": first, "y": second})


def test_nothing_to_merge_is_refused():
    with pytest.raises(InputError, match="at least one expert"):
        check_models({})
    with pytest.raises(InputError, match="no parameters"):
        check_models({"x": {}})


def test_tensors_have_roles():
    assert role("layer.weight", torch.ones(1)) is Role.MERGED
    assert role("bn.running_var", torch.ones(1)) is Role.AVERAGED
    assert role("running_mean", torch.ones(1)) is Role.AVERAGED
    assert role("bn.num_batches_tracked", torch.tensor(3)) is Role.COUNTER
    assert role("position_ids", torch.arange(3)) is Role.COPIED
    assert role("mask", torch.ones(1, dtype=torch.bool)) is Role.COPIED


def test_a_shared_tensor_goes_by_its_first_name():
    shared, alone = torch.ones(3), torch.ones(3)
    tied = {"z": shared, "m": shared, "c": alone}
    assert untie({"x": tied}) == {"c": "c", "m": "m", "z": "m"}


def test_a_tensor_that_is_shared_in_one_model_only_is_not_tied():
    shared = torch.ones(3)
    tied = {"a": shared, "b": shared}
    untied = {"a": torch.ones(3), "b": torch.ones(3)}
    assert untie({"x": tied, "y": untied}) == {"a": "a", "b": "b"}


def test_views_of_one_storage_are_not_tied():
    storage = torch.arange(6.0)
    views = {"a": storage[:3], "b": storage[3:], "c": storage[:2], "d": storage[:0]}
    assert untie({"x": views}) == {name: name for name in "abcd"}
