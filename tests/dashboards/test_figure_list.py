"""The list of the papers' figures names what is there."""

import re
from pathlib import Path

import pytest

from dashboards.app.menu import MENU
from dashboards.questions import QUESTIONS
from dashboards.sections import SECTIONS
from storage.schema import MACROS, RELATIONS

LIST = Path(__file__).parents[2] / "docs" / "figures.md"
PAGES = {entry.title for entry in MENU}
PLACES = [
    line.rsplit("|", 2)[1].strip()
    for line in LIST.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| |")
]
"""Where each figure or table is."""


def test_every_paper_is_on_the_list():
    headings = re.findall("^## (.*)", LIST.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(headings) == 6
    assert len(PLACES) > 45


@pytest.mark.parametrize("place", sorted(set(PLACES)))
def test_what_is_named_is_there_and_what_is_not_there_has_a_reason(place):
    if place.startswith("not here"):
        assert re.match("not here: .{10,}", place)
        return
    sections = {section.__name__ for section in SECTIONS}
    for named in re.findall(r"report: ((?:`\w+`(?:,| and)? ?)+)", place):
        assert set(re.findall(r"`(\w+)`", named)) <= sections
    for named in re.findall(r"app: (.*?)(?: \(|[,;:.]|$)", place):
        assert set(named.split(" and ")) <= PAGES
    for named in re.findall(r"questions? `(\w+)`", place):
        assert named in QUESTIONS
    for named in re.findall(r"\(`(\w+)`", place):
        assert named in {*RELATIONS, *MACROS}
