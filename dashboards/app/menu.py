"""The pages of the app: a file in `screens/` for each, which its address names."""

from dataclasses import dataclass
from pathlib import Path

SCREENS = Path(__file__).parent / "screens"


@dataclass(frozen=True)
class Entry:
    """A page."""

    name: str
    """Its address, and its file."""

    title: str
    """What the menu calls it."""

    is_scoped: bool = True
    """Whether it is about the experiment and the experts that are chosen above it."""

    is_listed: bool = True
    """Whether it is in the menu."""

    @property
    def file(self) -> Path:
        """Its script."""
        return SCREENS / f"{self.name}.py"


MENU = (
    Entry("overview", "Overview"),
    Entry("leaderboard", "Leaderboard"),
    Entry("pairs", "Two methods"),
    Entry("trade_off", "Trade-off"),
    Entry("sensitivity", "Sensitivity"),
    Entry("scaling", "Number of experts"),
    Entry("costs", "Costs"),
    Entry("storage", "Storage"),
    Entry("per_task", "Tasks"),
    Entry("task_vectors", "Task vectors"),
    Entry("learned", "Learned"),
    Entry("cells", "Cells"),
    Entry("papers", "Papers"),
    Entry("sql", "SQL", is_scoped=False),
    Entry("cell", "Cell", is_scoped=False, is_listed=False),
)
"""Every page; the first is the one without an address."""
