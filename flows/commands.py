"""The commands: run, plan, sql, report, dashboard, verify, rebuild, ...

What is slow to import - Prefect, PyTorch, open_clip - is imported by the command that
needs it.
"""

import csv
import io
import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

if TYPE_CHECKING:
    from storage.results import Results
    from storage.root import Root

DEFAULT_ROOT = "mergegrid-data"
INTERRUPTED = 130
"""Exit status of a run that was interrupted, as shells have it."""

WIDEST = 10_000
"""Columns of a table that no person reads on a terminal: nothing is folded."""

app = typer.Typer(
    help="Run merge grids: train, measure, trim, merge, evaluate, ask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False, markup=False)
if not console.is_terminal:
    console = Console(highlight=False, markup=False, width=WIDEST)

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


class Format(StrEnum):
    """How `sql` prints rows."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@app.command()
def run(
    experiment: ExperimentFile,
    root: RootUrl = DEFAULT_ROOT,
    dask: Annotated[
        str | None,
        typer.Option(
            help="Run steps on a Dask cluster: a scheduler's address, or a number of "
            "processes here."
        ),
    ] = None,
) -> None:
    """Run an experiment: everything that has not been done yet."""
    from flows.answers import leaderboard, prerequisites, report_path
    from flows.local import run_locally
    from flows.show import show_answers
    from mergegrid.experiment import load_experiment

    started = time.monotonic()
    loaded = load_experiment(experiment)
    try:
        run_locally(experiment, root, console, dask=dask)
    except KeyboardInterrupt:
        typer.echo("interrupted; what was done is kept", err=True)
        _leave(INTERRUPTED)
    place, results = _open_results(root)
    show_answers(leaderboard(results, loaded.name), console)
    show_answers(prerequisites(results, loaded.name), console)
    console.print(f"data      {place.url}")
    console.print(f"database  {results.path}")
    console.print(f"report    {report_path(place, loaded.name)}")
    console.print(f"Done in {time.monotonic() - started:.0f} s.")


@app.command()
def plan(experiment: ExperimentFile, root: RootUrl = DEFAULT_ROOT) -> None:
    """Say what `run` would do and what it would cost, without doing anything."""
    from flows.plan import make_plan
    from flows.show import show_plan
    from mergegrid.experiment import load_experiment
    from mergegrid.experiment_steps import build_steps
    from storage.root import Root
    from tasks.workspace import Workspace

    loaded = load_experiment(experiment)
    # Planning makes nothing, not even the root; but a bucket has to be there.
    place = Root(root)
    if place.local is None:
        place = Root.open(root, create=False)
    workspace = Workspace(loaded, build_steps(loaded), place)
    show_plan(make_plan(workspace), console)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to ask.")],
    root: RootUrl = DEFAULT_ROOT,
    form: Annotated[
        Format, typer.Option("--format", help="How to print the rows.")
    ] = Format.TABLE,
) -> None:
    """Ask the results database; nothing can be changed."""
    from flows.show import show_rows

    _, results = _open_results(root)
    results.refresh()
    columns, rows = results.query(query)
    match form:
        case Format.TABLE:
            show_rows(columns, rows, console)
        case Format.JSON:
            records = [dict(zip(columns, row, strict=True)) for row in rows]
            typer.echo(json.dumps(records, indent=2, default=str))
        case Format.CSV:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)
            typer.echo(text.getvalue(), nl=False)


@app.command()
def report(experiment: ExperimentFile, root: RootUrl = DEFAULT_ROOT) -> None:
    """Write an experiment's report: one HTML page that needs nothing else."""
    from dashboards.report import write_report
    from flows.answers import report_path
    from mergegrid.experiment import load_experiment

    name = load_experiment(experiment).name
    place, results = _open_results(root)
    results.refresh()
    path = report_path(place, name)
    write_report(results, name, path)
    console.print(str(path))


@app.command()
def export(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="The cell's key.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="The directory to make.")
    ],
    root: RootUrl = DEFAULT_ROOT,
    *,
    rank: Annotated[
        int | None,
        typer.Option(
            min=1, help="Write an adapter of this rank instead of a full model."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace OUT_DIR, if it is there.")
    ] = False,
) -> None:
    """Merge a cell's model once more and write it, as a directory that loads."""
    from flows.export import export as export_cell

    place, results = _open_results(root)
    results.refresh()
    errors = export_cell(place, results, cell, out, rank=rank, force=force)
    console.print(str(out))
    for task, error in errors.items():
        console.print(f"relative error {error:.2g} {task}".rstrip())


@app.command()
def dashboard(
    root: RootUrl = DEFAULT_ROOT,
    host: Annotated[
        str, typer.Option(help="The address to listen at; by default, this machine's.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="The port; without it, the first free one from 8501."
        ),
    ] = None,
) -> None:
    """Serve the results as a web app, which follows a running grid."""
    from flows.dashboard import serve

    try:
        serve(*_open_results(root), host, port, console)
    except KeyboardInterrupt:
        _leave(INTERRUPTED)


@app.command()
def verify(root: RootUrl = DEFAULT_ROOT) -> None:
    """Check every stored byte, and set aside what is damaged, for `run` to make."""
    from storage.artifacts import ArtifactStore
    from storage.ledger import Ledger
    from storage.root import Root

    place = Root.open(root, create=False)
    artifacts = damaged = 0
    for key, fault in ArtifactStore(place).verify():
        artifacts += 1
        if fault is not None:
            damaged += 1
            console.print(f"{key}: {fault}")
    ledger = Ledger(place)
    records = sum(1 for _ in ledger.read(ledger.list()))
    for name, fault in ledger.quarantined.items():
        console.print(f"record {name}: {fault}")
    damaged += len(ledger.quarantined)
    console.print(
        f"{artifacts} artifacts and {records} records checked, {damaged} damaged"
        + (" and set aside; run the experiment again to make them anew" * bool(damaged))
    )
    _leave(1 if damaged else 0)


@app.command()
def rebuild(root: RootUrl = DEFAULT_ROOT) -> None:
    """Make the results database anew from the ledger."""
    _, results = _open_results(root)
    console.print(str(results.rebuild()))


@app.command()
def gc(
    root: RootUrl = DEFAULT_ROOT,
    *,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove it; without this, list it.")
    ] = False,
    current_only: Annotated[
        bool,
        typer.Option(
            "--current-only",
            help="Cells count only if today's definition of an experiment has them.",
        ),
    ] = False,
    grace_days: Annotated[
        float, typer.Option(min=0, help="What is younger stays.")
    ] = 7.0,
) -> None:
    """List what no recorded cell needs and no running grid uses."""
    from flows.keep import Keeper
    from flows.show import garbage_line, size
    from storage.root import Root

    place = Root.open(root, create=False)
    keeper = Keeper(place, superseded=not current_only)
    now, grace = time.time(), grace_days * 86_400
    if delete:
        found = keeper.remove_garbage(grace=grace)
    else:
        found = iter(keeper.list_garbage(now=now, grace=grace))
    count = total = 0
    for part in found:
        count += 1
        total += part.size
        console.print(garbage_line(part, now))
    for note in keeper.notes:
        console.print(note)
    what = f"{count} thing{'s' * (count != 1)} that nothing needs, {size(total)}"
    console.print(f"{what}: {'removed' if delete else '--delete removes them'}")


@app.command()
def compact(root: RootUrl = DEFAULT_ROOT) -> None:
    """Gather the ledger's small records in few files; runs may go on meanwhile."""
    from storage.compaction import compact as compact_ledger
    from storage.ledger import Ledger
    from storage.root import Root

    done = compact_ledger(Ledger(Root.open(root, create=False)), least=2)
    console.print(
        f"{done.records} records gathered in {done.segments} segments; {done.deleted} "
        "files of single records removed that segments have held for a day"
    )


@app.command()
def server(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.")] = 4200,
    keep_days: Annotated[
        int, typer.Option(min=1, help="Days that runs, logs and events are kept.")
    ] = 30,
) -> None:
    """Start a Prefect server that stays; PREFECT_HOME says where its database is."""
    from flows.operate import become_server

    become_server(host=host, port=port, keep_days=keep_days)


@app.command()
def deploy(
    gpus: Annotated[
        int, typer.Option(min=1, help="Heavy steps at once, over all machines.")
    ] = 1,
    kind: Annotated[
        str,
        typer.Option(
            "--type",
            help="What the gpu pool's workers run things in: process, docker, "
            "kubernetes.",
        ),
    ] = "process",
) -> None:
    """Set up work pools, limits and deployments on the Prefect server."""
    from flows.operate import use_server

    address = use_server()
    from flows.pools import deploy as deploy_all

    for line in deploy_all(gpus=gpus, kind=kind):
        console.print(line)
    console.print(f"Start a grid at {address.removesuffix('/api')}/deployments")


@app.command()
def worker(
    pool: Annotated[str, typer.Argument(help="cpu, or gpu: one for each GPU.")],
    name: Annotated[str | None, typer.Option(help="Its name in the UI.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at once; 1 on the gpu pool by default."),
    ] = None,
) -> None:
    """Start a worker of a work pool."""
    from flows.operate import become_worker

    alone = 1 if pool == "gpu" else None
    become_worker(pool=pool, name=name, limit=limit or alone)


def _open_results(root: str) -> "tuple[Root, Results]":
    from storage.ledger import Ledger
    from storage.results import Results
    from storage.root import Root

    place = Root.open(root, create=False)
    return place, Results(place, Ledger(place))


def _leave(status: int) -> NoReturn:
    raise typer.Exit(status)
