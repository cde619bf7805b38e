"""The commands: run, plan, sql, report, verify, rebuild."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Run merge grids: train, measure, trim, merge, evaluate, ask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False, markup=False)

ExperimentFile = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment's file.")
]
RootUrl = Annotated[
    str,
    typer.Option(
        "--root",
        envvar="MERGEGRID_ROOT",
        help="Where artifacts and results live: a directory or s3://bucket/prefix.",
    ),
]
DEFAULT_ROOT = "mergegrid-data"


@app.command()
def run(experiment: ExperimentFile, root: RootUrl = DEFAULT_ROOT) -> None:
    """Run an experiment: everything that has not been done yet."""
    from flows.local import run_locally
    from mergegrid.experiment import load_experiment

    run_locally(load_experiment(experiment), root, console)


@app.command()
def plan(experiment: ExperimentFile, root: RootUrl = DEFAULT_ROOT) -> None:
    """Say what `run` would do and what it would cost, without doing anything."""
    from flows.plan import make_plan
    from flows.show import show_plan
    from mergegrid.experiment import load_experiment
    from tasks.workspace import open_workspace

    document = load_experiment(experiment).model_dump_json()
    show_plan(make_plan(open_workspace(document, root)), console)
