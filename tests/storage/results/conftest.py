"""Records of a small experiment, written by hand, and the database made of them."""

import json
import math
import shutil
from types import SimpleNamespace

import pytest

from storage.results import Results

HELD_IN = ["a/1", "b/2"]
GENERALIZATION = ["a/2", "b/1", "b/3"]


class Ledger:
    """Records in memory, and what was read of them."""

    def __init__(self, records):
        self.records = dict(records)
        self.read_names = []

    def list(self):
        return set(self.records)

    def read(self, names):
        for name in sorted(names):
            self.read_names.append(name)
            yield name, [{"schema_version": 1, **row} for row in self.records[name]]


def score(cell, task, correct, split="test", examples=100):
    value = correct / examples
    return {
        "table": "scores",
        "cell": cell,
        "task": task,
        "split": split,
        "metric": "accuracy",
        "role": "held_in" if task in HELD_IN else "generalization",
        "correct": correct,
        "examples": examples,
        "value": value,
        "standard_error": math.sqrt(value * (1 - value) / examples),
    }


def cost(step, stage, seconds, flops=0, recorded_at="2026-01-01T00:00:00"):
    return {
        "table": "costs",
        "step": step,
        "stage": stage,
        "seconds": seconds,
        "flops": flops,
        "recorded_at": recorded_at,
    }


def cell(name, method, swept=None, experts=HELD_IN, definition="now", **columns):
    references = {"pretrained", "individual", "multitask"}
    return {
        "table": "cells",
        "experiment": "small",
        "definition": definition,
        "cell": name,
        "kind": "reference" if method in references else "merged",
        "method": method,
        "method_version": 1,
        "options": json.dumps(swept or {}),
        "swept": json.dumps(swept or {}),
        "experts": experts,
        "size": len(experts),
        "sample": 0,
        "seed": 0,
        **columns,
    }


def lineage(child, *parents):
    return [{"table": "lineage", "child": child, "parent": p} for p in parents]


def scored(name, held_in, generalization, validation=(), tasks=HELD_IN):
    return [
        *(score(name, t, c) for t, c in zip(tasks, held_in, strict=True)),
        *(score(name, tasks[i], c, "validation") for i, c in enumerate(validation)),
        *(
            score(name, t, c)
            for t, c in zip(GENERALIZATION, generalization, strict=True)
        ),
        cost(name, "evaluate", 1.0),
    ]


def experiment(definition="now", recorded_at="2026-01-02"):
    return {
        "table": "experiments",
        "experiment": "small",
        "definition": definition,
        "recorded_at": recorded_at,
    }


def records():
    """Two experts, merged by average and by task arithmetic with three scales."""
    found = {
        "0": [experiment()],
        "1": [cost("base", "pretrain", 60)],
        "2": [cost("xa", "train", 6), *lineage("xa", "base")],
        "3": [cost("xb", "train", 4), *lineage("xb", "base")],
        "4": [cost("ga", "gram", 2, 1000), *lineage("ga", "xa", "base")],
        "5": [
            cell("pre", "pretrained", experts=[]),
            *scored("pre", (50, 40), (60, 50, 40)),
            *lineage("pre", "base"),
        ],
        "6": [
            cell("ia", "individual", experts=["a/1"]),
            *scored("ia", (90,), (40, 30, 20), tasks=["a/1"]),
            *lineage("ia", "xa"),
        ],
        "7": [
            cell("ib", "individual", experts=["b/2"]),
            *scored("ib", (80,), (20, 10, 30), tasks=["b/2"]),
            *lineage("ib", "xb"),
        ],
        "8": [
            cell("avg", "average"),
            *scored("avg", (60, 60), (70, 50, 60), (60, 60)),
            cost("avg", "merge", 0.5, 16),
            *lineage("avg", "xa", "xb", "base"),
        ],
        "9": [
            cell("reg", "regmean", {"off_diagonal": 0.9}),
            *scored("reg", (81, 64), (70, 40, 30), (70, 70)),
            cost("reg", "merge", 2, 300),
            *lineage("reg", "xa", "xb", "ga"),
        ],
    }
    # The best scale by validation is the middle one; by test it would be the last.
    for scale, validation, test in ((0.1, 50, 50), (1 / 3, 70, 55), (1.0, 60, 99)):
        name = f"ta{scale:.1f}"
        found[name] = [
            cell(name, "task_arithmetic", {"scale": scale}),
            *scored(name, (test, test), (test, 50, 10), (validation, validation)),
            cost(name, "merge", 0.25, 32),
            *lineage(name, "xa", "xb", "base", "avg"),
        ]
    return found


def results(tmp_path, ledger):
    root = SimpleNamespace(local=tmp_path, cache=tmp_path / ".cache")
    return Results(root, ledger)


@pytest.fixture(scope="session")
def by_hand():
    """What writes such records, and opens the database that is made of them."""
    return SimpleNamespace(
        Ledger=Ledger,
        score=score,
        cost=cost,
        cell=cell,
        lineage=lineage,
        scored=scored,
        experiment=experiment,
        records=records,
        results=results,
        HELD_IN=HELD_IN,
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("built")
    return results(path, Ledger(records())).refresh()


@pytest.fixture
def small(tmp_path, built):
    """The database of the small experiment."""
    database = results(tmp_path, Ledger(records()))
    shutil.copy(built, database.path)
    return database
