"""That no method is without a reference by hand."""

import ast
from pathlib import Path

from mergegrid.methods import METHODS


def keys_of_cases(file):
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "CASES":
            return [key.id for key in node.value.keys]
    return []


def test_every_method_has_a_reference():
    files = Path(__file__).parent.glob("test_*.py")
    found = [method for file in files for method in keys_of_cases(file)]
    assert sorted(found) == sorted(METHODS)
