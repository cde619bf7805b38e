"""Trees of experts."""

import pytest
import torch

from mergegrid.errors import InputError
from mergegrid.learning.tree import Node, cosines, given_tree, similar_tree

NAMES = ("a", "b", "c", "d", "e")


def written(node):
    """A tree as nested tuples of names."""
    return tuple(map(written, node.parts)) if node.parts else node.name


# a and b are alike, d and e even more, and c is nearer to d and e than to a and b.
ALIKE = torch.tensor(
    [
        [1.0, 0.8, 0.1, 0.0, 0.0],
        [0.8, 1.0, 0.1, 0.0, 0.0],
        [0.1, 0.1, 1.0, 0.5, 0.5],
        [0.0, 0.0, 0.5, 1.0, 0.9],
        [0.0, 0.0, 0.5, 0.9, 1.0],
    ],
    dtype=torch.float64,
)


def test_those_that_are_most_alike_are_merged_first():
    assert written(similar_tree(ALIKE, NAMES, 2)) == (
        ("a", "b"),
        ("c", ("d", "e")),
    )


def test_merges_are_as_flat_as_the_number_of_parts_allows():
    assert written(similar_tree(ALIKE, NAMES, 3)) == (("a", "b"), ("c", "d", "e"))
    assert written(similar_tree(ALIKE, NAMES, 5)) == NAMES
    for together in (2, 3, 4):
        root = similar_tree(ALIKE, NAMES, together)
        assert all(len(node.parts) <= together for node in root.merges())
        assert root.experts == NAMES


def test_a_tree_does_not_depend_on_the_order_of_the_experts():
    order = [3, 0, 4, 2, 1]
    names = tuple(NAMES[number] for number in order)
    root = similar_tree(ALIKE[order][:, order], names, 2)

    def sets(node):
        return frozenset(map(sets, node.parts)) if node.parts else node.name

    assert sets(root) == sets(similar_tree(ALIKE, NAMES, 2))


def test_a_given_tree_is_read_as_it_is_written():
    given = (("b", "a"), ("d", ("c", "e")))
    root = given_tree(given, NAMES)
    assert written(root) == (("a", "b"), (("c", "e"), "d"))
    assert [node.name for node in root.merges()] == ["a+b", "c+e", "c+d+e", "a+b+c+d+e"]
    assert given_tree((("a",), "b"), ("a", "b")) == Node(
        ("a", "b"), (Node(("a",)), Node(("b",)))
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((("a", "b"), "c", "d"), "has e 0 times"),
        (("a", "a", "b", "c", "d", "e"), "has a 2 times"),
        (("a", "b", "c", "d", "e", "f"), "has f, which is none"),
        (("a", "b", "c", "d", "e", ()), "empty list"),
    ],
)
def test_a_tree_that_does_not_fit_is_refused(given, says):
    with pytest.raises(InputError, match=says):
        given_tree(given, NAMES)


class Vectors:
    names = ("x", "y")
    experts = ("a", "b", "c")

    def of(self, name):
        rows = {"x": [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], "y": [[2.0], [0.0], [0.0]]}
        return torch.tensor(rows[name])


def test_likeness_is_the_cosine_over_the_whole_model():
    found = cosines(Vectors())
    expected = 1 / (5**0.5 * 2**0.5)
    assert found[0, 1].item() == pytest.approx(expected)
    assert found.diagonal().tolist() == pytest.approx([1.0, 1.0, 0.0])
    assert found[2].tolist() == [0.0, 0.0, 0.0]
