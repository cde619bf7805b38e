"""The README tells the truth."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from mergegrid.methods import METHODS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


# Of every method with a scale; said once, below the table.
SHARED = ("depth_scale", "layer_scales", "match_norm")


def table():
    rows = []
    for method in METHODS.values():
        swept = "; ".join(
            f"{option} {', '.join(map(str, values))}"
            for option, values in method.sweep.items()
        )
        needs = ", ".join(sorted(need.value for need in method.all_needs))
        own = [name for name in method.options.model_fields if name not in SHARED]
        options = ", ".join(own)
        title = f"{method.title} (per task)" if method.per_task else method.title
        cells = (f"`{method.name}`", title, needs or "-", options, swept or "-")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def test_the_table_of_methods_is_that_of_the_registry():
    assert table() in README, f"put this into the README:\n{table()}"


@pytest.mark.parametrize("page", ["README.md", "docs/learned.md"])
def test_the_first_example_prints_what_it_says(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    code, printed = re.search(
        r"```python\n(.*?)```\n+```\n(.*?)```", text, flags=re.DOTALL
    ).groups()
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code, {})
    assert output.getvalue() == printed


def test_every_path_that_it_links_exists():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
