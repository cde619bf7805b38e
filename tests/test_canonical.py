import pytest
import torch

from mergegrid.canonical import canonical_json, digest


def test_equal_values_have_one_text_whatever_their_spelling():
    assert canonical_json({"b": 1.0, "a": (1, 2)}) == '{"a":[1,2],"b":1}'


def test_a_boolean_is_not_a_number():
    assert digest(True) != digest(1)


def test_text_is_not_a_number():
    assert digest("1") != digest(1)


def test_tensors_have_no_identity():
    with pytest.raises(TypeError, match="Tensor has no canonical JSON"):
        digest({"weights": torch.zeros(2)})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_have_no_identity(value):
    with pytest.raises(ValueError, match="no place in an identity"):
        digest([value])
