"""The papers' experiments on images, planned in full and run small on replicas."""

import pytest
from prefect.logging import disable_run_logger

from flows.expected import ASSUMED_SPEED, expected
from flows.jobs import EVERYTHING, TASKS, make_jobs
from flows.plan import make_plan
from mergegrid.experiment import load_experiment, parse_experiment
from mergegrid.experiment_steps import build_steps
from mergegrid.grid import expand
from storage.root import Root
from tasks.workspace import Workspace, open_workspace
from tests.replicas import domainnet, vision
from tests.replicas.__main__ import EXPERIMENTS
from tests.replicas.__main__ import small as made_small


def small(name, options):
    return parse_experiment(made_small(name, options), source=name)


def run(experiment, root):
    """Do what the flow does, job by job, without its server; give the workspace."""
    document = experiment.model_dump_json()
    workspace = open_workspace(document, str(root))
    with disable_run_logger():
        for job in make_jobs(make_plan(workspace), EVERYTHING):
            TASKS[job.kind].fn(document, str(root), list(job.keys), job.label)
    return workspace


def scores(workspace):
    keys = workspace.steps.scored
    rows = [row for key in keys for row in workspace.ledger.rows(key)]
    return [row for row in rows if row["table"] == "scores"]


@pytest.mark.parametrize(
    ("name", "replica"),
    [
        ("domainnet", domainnet),
        ("vision8", vision),
        ("vision14", vision),
        ("vision20", vision),
    ],
)
def test_a_papers_experiment_runs_to_its_end_on_a_replica(name, replica, tmp_path):
    experiment = small(name, replica.make(tmp_path / "replica"))
    methods = {cell.method for cell in expand(experiment)}
    assert methods == {cell.method for cell in expand(paper(name))}
    workspace = run(experiment, tmp_path / "root")
    assert make_plan(workspace).is_done
    found = scores(workspace)
    assert {row["task"] for row in found} == {t.name for t in workspace.steps.tasks}
    assert all(0 <= row["value"] <= 1 for row in found)


def paper(name):
    return load_experiment(EXPERIMENTS / f"{name}.yaml")


@pytest.mark.parametrize(
    "name", ["domainnet", "vision8", "vision8_published", "vision14", "vision20"]
)
def test_a_papers_experiment_is_planned_with_nothing_downloaded(name, tmp_path):
    experiment = small(name, {})
    workspace = Workspace(experiment, build_steps(experiment), Root(str(tmp_path)))
    will = expected(make_plan(workspace))
    assert {fetch.what for fetch in will.fetches} > {
        fetch.what for fetch in workspace.suite.fetches()
    }
    assert all(fetch.bytes > 0 for fetch in workspace.suite.fetches())
    assert min(will.prepare_flops, will.merge_flops, will.evaluate_flops) > 0
    assert will.gpu_hours * 3600 * ASSUMED_SPEED == pytest.approx(will.flops)
    # A ViT-B/32 has 88 million parameters in its vision tower.
    experts = len(workspace.steps.experts)
    assert will.memory >= (experts + 2) * 87_000_000 * 4
    assert not any(tmp_path.iterdir())


def test_experts_that_are_published_are_fetched_and_not_trained(tmp_path):
    experiment = paper("vision8_published")
    planned = build_steps(experiment)
    assert not planned.named("train", "multitask")
    workspace = Workspace(experiment, planned, Root(str(tmp_path)))
    fetched = [fetch.what for fetch in expected(make_plan(workspace)).fetches]
    assert set(experiment.suite["experts"].values()) < set(fetched)


def test_evaluation_is_planned_on_what_is_evaluated(tmp_path):
    experiment = small("domainnet", domainnet.make(tmp_path / "replica"))
    planned = build_steps(experiment)
    workspace = Workspace(experiment, planned, Root(str(tmp_path / "root")))
    counts = workspace.suite.counts()
    tests = {t.name: counts[f"{t.name}.test"] for t in planned.tasks}
    others = sum(tests[task.name] for task in planned.tasks if not task.held_in)
    wanted = 0
    for entry in planned.scored.values():
        merged = entry.cell.experts or planned.experts
        held = [tests[name] + counts[f"{name}.validation"] for name in merged]
        wanted += sum(held) + others
    will = expected(make_plan(workspace))
    assert will.evaluate_flops == wanted * workspace.estimates.forward_flops
