import pytest
import torch

from mergegrid.errors import InputError, LayoutError
from mergegrid.layout import make_layout, untie
from mergegrid.sources import InMemory


def sources(models):
    return {name: InMemory(parameters) for name, parameters in models.items()}


def layout_of(models, vocabulary="refuse"):
    found = sources(models)
    return make_layout(found, next(iter(found.values()), None), vocabulary)


def model(**tensors):
    return {"a": torch.ones(2, 3), "b": torch.ones(2), **tensors}


def checked(**changes):
    other = {
        name: tensor for name, tensor in model(**changes).items() if tensor.numel()
    }
    layout_of({"expert 'x'": model(), "expert 'y'": other})


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
            "he expert 'x' has a parameter 'b', the expert 'y' has",
        ),
        (
            {"a": torch.ones(3, 2)},
            r"'y' has 'a' with shape \(3, 2\), .* shape \(2, 3\)",
        ),
        ({"a": torch.ones(2, 3).int()}, "'y' has 'a' in int32, .* in float32"),
    ],
)
def test_a_difference_in_layout_is_named(changes, message):
    with pytest.raises(LayoutError, match=message):
        checked(**changes)


def test_integers_that_differ_are_refused():
    first, second = (model(ids=torch.tensor(ids)) for ids in ([0, 1, 2], [0, 1, 3]))
    layout_of({"x": first, "y": first})
    with pytest.raises(LayoutError, match="differ in 'ids', which holds int64"):
        layout_of({"x": first, "y": second})


def test_nothing_to_merge_is_refused():
    with pytest.raises(InputError, match="at least one expert"):
        layout_of({})
    with pytest.raises(InputError, match="no parameters"):
        layout_of({"x": {}})


def test_a_shared_tensor_goes_by_its_first_name():
    shared, alone = torch.ones(3), torch.ones(3)
    tied = {"z": shared, "m": shared, "c": alone}
    assert untie(sources({"x": tied})) == {"c": "c", "m": "m", "z": "m"}


def test_a_tensor_that_is_shared_in_one_model_only_is_not_tied():
    shared = torch.ones(3)
    tied = {"a": shared, "b": shared}
    untied = {"a": torch.ones(3), "b": torch.ones(3)}
    assert untie(sources({"x": tied, "y": untied})) == {"a": "a", "b": "b"}


def test_views_of_one_storage_are_not_tied():
    storage = torch.arange(6.0)
    views = {"a": storage[:3], "b": storage[3:], "c": storage[:2], "d": storage[:0]}
    assert untie(sources({"x": views})) == {name: name for name in "abcd"}


def test_everything_that_differs_is_listed_at_once():
    other = {"a": torch.ones(3, 2), "d": torch.ones(2)}
    with pytest.raises(LayoutError) as caught:
        layout_of({"x": model(), "y": other})
    for part in ("'b'", "'d'", "(3, 2)"):
        assert part in str(caught.value)


def test_a_long_list_of_differences_is_cut_and_counted():
    many = {f"p{index}": torch.ones(1) for index in range(50)}
    with pytest.raises(LayoutError, match="and 30 more differences"):
        layout_of({"x": model(), "y": {**model(), **many}})


def test_floating_point_types_may_differ():
    layout = layout_of({"x": model(), "y": model(a=torch.ones(2, 3).half())})
    assert layout.infos["a"].dtype == torch.float32


def test_a_vocabulary_that_differs_is_an_error_unless_it_is_to_be_intersected():
    models = {"x": model(), "y": model(a=torch.ones(5, 3))}
    with pytest.raises(LayoutError, match="vocabulary: intersect"):
        layout_of(models)
    layout = layout_of(models, "intersect")
    assert layout.shapes["a"] == (2, 3)
    with pytest.raises(LayoutError, match="shape"):
        layout_of({"x": model(), "y": model(a=torch.ones(2, 4))}, "intersect")


def test_equal_matrices_are_one_tensor_that_was_written_twice():
    matrix = torch.arange(6.0).view(2, 3)
    models = {
        name: {"embed": matrix + shift, "head": (matrix + shift).clone()}
        for name, shift in (("x", 0.0), ("y", 1.0))
    }
    assert untie(sources(models)) == {"embed": "embed", "head": "embed"}
    models["y"]["head"][1, 2] += 1
    assert untie(sources(models)) == {"embed": "embed", "head": "head"}


def test_matrices_of_one_number_are_not_taken_for_one_tensor():
    zeros = {"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)}
    assert untie(sources({"x": zeros})) == {"a": "a", "b": "b"}
