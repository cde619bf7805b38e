"""The report of an experiment: one HTML page that needs nothing else.

Questions, figures and plotly's own script are all inside it, so that it can be mailed,
archived and opened without a network.
"""

from pathlib import Path

from dashboards.page import page
from dashboards.questions import Database, ask
from mergegrid.errors import ResultsError

ASKED = (
    "leaderboard",
    "held_in_vs_generalization",
    "paired",
    "bootstrap",
    "tasks",
    "experts",
    "normalized",
    "sensitivity",
    "scale_sweeps",
    "selections",
    "consensus_thresholds",
    "useless_weights",
    "scaling",
    "incremental",
    "costs",
    "prerequisites",
    "stages",
    "spent",
    "memory_peaks",
    "budgets",
    "budget_curve",
    "coefficients",
    "coefficient_spread",
    "learning",
    "learning_costs",
    "storage",
    "storage_by_size",
    "redundancy",
    "conflicts",
    "magnitudes",
    "agreement",
    "mask_shares",
    "task_vectors",
    "against_paper",
    "provenance",
)
"""The questions that a report answers."""

MODEL = {"paper": "realistic", "suite": "domainnet", "model": "ViT-B-32"}
"""What results are put beside if no paper has numbers of their suite: `glyphs` is this
one in miniature."""


def write_report(results: Database, experiment: str, path: Path) -> None:
    """Ask the database everything and write the answers as a page.

    Args:
        results: the results database, up to date.
        experiment: the experiment's name.
        path: the file to write; it is replaced when the page is complete.

    Raises:
        ResultsError: if there is no such experiment, or the file cannot be written.
    """
    _, names = results.query("SELECT DISTINCT experiment FROM experiments")
    known = sorted(name for (name,) in names)
    if experiment not in known:
        raise ResultsError(
            f"There are no results of experiment {experiment!r}. "
            f"Known: {', '.join(known) or 'none'}."
        )
    values = {"experiment": experiment, "subset": 1}
    papers = ask(results, "papers", values).rows
    own = [row for row in papers if row["is_ours"] and row["gains"]]
    beside = max(
        own, key=lambda row: (row["is_our_model"], row["gains"]), default=MODEL
    )
    values |= {
        "paper": beside["paper"],
        "paper_suite": beside["suite"],
        "paper_model": beside["model"],
    }
    answers = {name: ask(results, name, values) for name in ASKED}
    text = page(experiment, answers)
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ResultsError(f"Cannot write {path}: {error.strerror}.") from error
