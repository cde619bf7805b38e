"""What a run leaves for people: the database, the report, tables in Prefect's UI."""

from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from dashboards.report import write_report
from flows.answers import Answers, leaderboard, prerequisites, report_path
from storage.results import Results
from tasks.workspace import Workspace


def publish(workspace: Workspace) -> Path:
    """Bring the database and the report up to date, and show the answer in the UI.

    Args:
        workspace: the experiment at its root.

    Returns:
        Where the report is.
    """
    name = workspace.experiment.name
    results = Results(workspace.root, workspace.ledger)
    results.refresh()
    path = report_path(workspace.root, name)
    write_report(results, name, path)
    for answer in (leaderboard(results, name), prerequisites(results, name)):
        if answer.rows:
            create_table_artifact(
                table=_table(answer),
                key=f"{answer.name}-{name.replace('_', '-')}",
                description=f"{answer.title}, experiment {name}",
            )
    create_markdown_artifact(
        markdown=f"The report of experiment *{name}* is at [{path}]({path.as_uri()}).",
        key=f"report-{name.replace('_', '-')}",
    )
    return path


def _table(answer: Answers) -> list[dict[str, Any]]:
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
