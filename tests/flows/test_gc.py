"""What `gc` keeps: everything that a recorded cell needs, and no more."""

import os

import pytest

from mergegrid.experiment_steps import build_steps
from mergegrid.steps import VERSIONS
from storage.artifacts import ArtifactStore
from storage.ledger import Ledger
from storage.root import Root
from tasks.record import cell_row, experiment_row

UNKNOWN = "train-v1-0123456789abcdef"


@pytest.fixture
def root(tmp_path):
    return Root.open(str(tmp_path / "root"))


@pytest.fixture
def recorded(root, experiment):
    """Record a small experiment as a run does, with artifacts of a few bytes."""

    def record(*, scored, **sections):
        steps = build_steps(experiment(**sections))
        ledger = Ledger(root)
        ledger.append("experiment-tiny", [experiment_row(steps)])
        rows = [cell_row(steps, entry, {}) for entry in steps.scored.values()]
        ledger.append(f"cells-tiny-{steps.definition}", rows)
        for key in steps.artifacts:
            write(root, key)
            ledger.append(key, lineage(steps.artifacts[key]))
        for key, entry in steps.scored.items():
            if scored:
                ledger.append(key, [score(key), *lineage(entry.step)])
        return set(steps.artifacts)

    return record


def write(root, key):
    with ArtifactStore(root).write(key, "step", 1, {}, {}) as draft:
        (draft / "payload").write_text(key)


def lineage(step):
    rows = [
        {"table": "lineage", "child": step.key, "parent": parent}
        for parent in step.parents
    ]
    return rows or [{"table": "costs", "step": step.key, "stage": step.name}]


def score(key):
    return {
        "table": "scores",
        "cell": key,
        "task": "a/real",
        "split": "test",
        "metric": "accuracy",
        "role": "held_in",
        "correct": 1,
        "examples": 2,
        "value": 0.5,
        "standard_error": 0.1,
    }


@pytest.fixture
def gc(ask, root):
    """Run `gc` on what has been there for an hour."""

    def gc(*arguments, **options):
        for path in root.local.rglob("*"):
            os.utime(path, (1e9, 1e9))
        return ask("gc", "--root", root.url, *arguments, **options)

    return gc


def kept(root):
    return ArtifactStore(root).keys()


LONGER = {
    "training": {
        "pretrain": {},
        "expert": {"steps": 77},
        "multitask": {},
    }
}
"""Another definition: other experts, the same pretrained model."""


def test_nothing_is_removed_unless_it_is_asked_for(gc, root, recorded):
    needed = recorded(scored=False)
    write(root, UNKNOWN)
    text = gc()
    assert f"artifacts/{UNKNOWN}: " in text
    assert "no recorded cell needs it" in text
    assert "1 thing that nothing needs" in text
    assert "--delete removes them" in text
    assert kept(root) == needed | {UNKNOWN}
    assert "removed" in gc("--delete")
    assert kept(root) == needed
    assert "0 things" in gc()


def test_what_is_young_stays_unless_no_grace_is_given(ask, root, recorded):
    needed = recorded(scored=True)
    write(root, UNKNOWN)
    assert "0 things" in ask("gc", "--root", root.url, "--delete")
    assert "1 thing " in ask("gc", "--root", root.url, "--grace-days", "0")
    assert kept(root) == needed | {UNKNOWN}


def test_what_an_interrupted_experiment_has_made_waits_for_it(gc, root, recorded):
    needed = recorded(scored=False)
    gc("--delete", "--current-only")
    assert kept(root) == needed


def test_an_earlier_definition_is_needed_by_its_scores_alone(gc, root, recorded):
    earlier = recorded(scored=True, **LONGER)
    now = recorded(scored=False)
    assert now - earlier
    assert earlier - now
    gc("--delete")
    assert kept(root) == earlier | now
    gc("--delete", "--current-only")
    assert kept(root) == now


def test_an_earlier_definition_without_scores_needs_nothing(gc, root, recorded):
    recorded(scored=False, **LONGER)
    now = recorded(scored=True)
    gc("--delete")
    assert kept(root) == now


def test_a_root_without_records_is_not_tidied_up(gc, root):
    write(root, UNKNOWN)
    for arguments in ((), ("--delete",)):
        assert "is it the right root?" in gc(*arguments, status=2)
    assert kept(root) == {UNKNOWN}


def test_a_damaged_record_stops_a_removal(gc, root, recorded):
    recorded(scored=True)
    (path, *_) = sorted(root.find("records"))
    root.write(path, b"{}")
    found = kept(root)
    line = gc("--delete", "--current-only", status=2)
    assert "records were damaged" in line
    assert kept(root) == found


def test_what_another_version_ran_is_kept_as_far_as_it_is_scored(
    gc, root, recorded, monkeypatch
):
    monkeypatch.setitem(VERSIONS, "pretrain", 99)
    needed = recorded(scored=True)
    monkeypatch.undo()
    write(root, UNKNOWN)
    text = gc("--delete")
    assert "tiny was run by another version of mergegrid" in text
    assert kept(root) == needed


def test_compacting_changes_no_answer(ask, root, recorded):
    recorded(scored=True)

    def answer():
        query = "SELECT (SELECT count(*) FROM scores), (SELECT count(*) FROM lineage)"
        return ask("sql", query, "--root", root.url, "--format", "csv")

    before = answer()
    text = ask("compact", "--root", root.url)
    records = len(Ledger(root).list())
    assert f"{records} records gathered in 1 segments" in text
    assert len(Ledger(root).segments.listed()) == 1
    ask("rebuild", "--root", root.url)
    assert answer() == before
    assert "0 records gathered" in ask("compact", "--root", root.url)
