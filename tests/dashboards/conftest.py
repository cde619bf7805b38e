"""A small experiment's rows, from which a whole report can be drawn."""

import json
import math
from types import SimpleNamespace

import pytest

from dashboards import questions
from storage.ledger import Ledger
from storage.results import Results
from storage.root import Root

HELD_IN = ["a/1", "b/2", "c/3"]
GENERALIZATION = ["a/2", "b/1", "c/1", "c/2"]
SCORES = {  # method and its swept options to held-in and generalization percent
    ("average", ()): (60, 58),
    ("ties", (("scale", 0.1),)): (61, 58),
    ("ties", (("scale", 0.5),)): (64, 60),
    ("ties", (("scale", 1.0),)): (55, 50),
    ("regmean", (("off_diagonal", 0.9),)): (70, 61),
    ("regmean", (("off_diagonal", 1.0),)): (20, 15),
    ("fisher", ()): (63, 55),
}


class Memory:
    """A ledger whose records are in memory."""

    def __init__(self, records):
        self.records = records

    def list(self):
        return set(self.records)

    def read(self, names):
        for name in sorted(names):
            yield name, [{"schema_version": 1, **row} for row in self.records[name]]


def scored(cell, held_in, generalization, tasks=HELD_IN):
    rows = []
    for kind, split, percent, names in (
        ("held_in", "validation", held_in, tasks),
        ("held_in", "test", held_in, tasks),
        ("generalization", "test", generalization, GENERALIZATION),
    ):
        for index, task in enumerate(names):
            value = (percent + index) / 100
            rows.append(
                {
                    "table": "scores",
                    "cell": cell,
                    "task": task,
                    "split": split,
                    "metric": "accuracy",
                    "role": kind,
                    "correct": 200 * value,
                    "examples": 200,
                    "value": value,
                    "standard_error": math.sqrt(value * (1 - value) / 200),
                }
            )
    return rows


def cost(step, stage, seconds, flops):
    return {
        "table": "costs",
        "step": step,
        "stage": stage,
        "seconds": seconds,
        "flops": flops,
        "device": "a processor",
        "git_commit": "0123456789abcdef",
        "recorded_at": "2026-01-01",
    }


def cell(name, method, experts, swept=(), kind="merged", sample=0):
    return {
        "table": "cells",
        "experiment": "small",
        "definition": "1",
        "cell": name,
        "kind": kind,
        "method": method,
        "method_version": 1,
        "options": json.dumps(dict(swept)),
        "swept": json.dumps(dict(swept)),
        "experts": experts,
        "size": len(experts),
        "sample": sample,
        "seed": 0,
    }


def experiment(description="Is <b>merging</b> worth it?"):
    return {
        "table": "experiments",
        "experiment": "small",
        "definition": "1",
        "suite": "glyphs",
        "document": json.dumps({"name": "small", "description": description}),
        "git_commit": "0123456789abcdef",
        "git_dirty": True,
        "versions": json.dumps({"torch": "2.14.1"}),
        "recorded_at": "2026-01-01",
    }


def references():
    every = [
        cell("pre", "pretrained", [], kind="reference"),
        cell("multi", "multitask", HELD_IN, kind="reference"),
        *scored("pre", 50, 52),
        *scored("multi", 80, 54),
    ]
    for index, task in enumerate(HELD_IN):
        every.append(cell(f"i{index}", "individual", [task], kind="reference"))
        every += scored(f"i{index}", 90, 30, [task])
    return every


def merges():
    rows = [cost("base", "pretrain", 40, 1e12), cost("gram", "gram", 2, 1e9)]
    for sample, experts in ((0, HELD_IN), (1, HELD_IN[:2])):
        for (method, swept), (held_in, generalization) in SCORES.items():
            if method == "fisher" and sample:
                continue  # merged over all experts alone
            name = f"{method}-{sample}-{dict(swept)}"
            rows += [
                cell(name, method, experts, swept, sample=sample),
                *scored(name, held_in + 3 * sample, generalization, experts),
                cost(name, "merge", 1, 1e6 * (100 if method == "regmean" else 1)),
                {"table": "lineage", "child": name, "parent": "base"},
            ]
            if method == "regmean":
                rows.append({"table": "lineage", "child": name, "parent": "gram"})
    return rows


STUDIED = {  # method and its swept options to held-in and generalization percent
    ("average", ()): (60, 58),
    ("task_arithmetic", (("scale", 0.1),)): (62, 57),
    ("task_arithmetic", (("scale", 0.3),)): (58, 40),
    **{
        ("ties", (("density", density), ("scale", scale), ("selection", selection))): (
            50 + 10 * density + 4 * scale + 3 * (selection == "exact"),
            50 + 5 * scale,
        )
        for density in (0.2, 0.6)
        for scale in (0.5, 1.0)
        for selection in ("exact", "random")
    },
    **{
        ("consensus", (("agreement", k), ("merge_by", merge_by))): (63 - k, 60 - k)
        for k in (1, 2, 3)
        for merge_by in ("task_arithmetic", "ties")
    },
}


def studies():
    """The rows of an experiment that repeats studies of the papers."""
    grid = [{"subsets": {"incremental": ["b/2", "a/1", "c/3"]}}]
    rows = [
        {
            **experiment(),
            "experiment": "studies",
            "document": json.dumps({"name": "studies", "grid": grid}),
        },
        *({**row, "experiment": "studies"} for row in references() if "kind" in row),
        *(row for row in references() if "kind" not in row),
    ]
    for experts in (HELD_IN, HELD_IN[:2]):
        for (method, swept), (held_in, generalization) in STUDIED.items():
            name = f"studied-{method}-{len(experts)}-{dict(swept)}"
            percent = held_in + 3 * (len(HELD_IN) - len(experts))
            rows += [
                {**cell(name, method, experts, swept), "experiment": "studies"},
                *scored(name, percent, generalization, experts),
                {**cost(name, "merge", 1, 1e6), "peak_memory": 5e8},
            ]
    return rows


def pruned():
    rows = []
    for density, held_in in ((0.1, 80), (1.0, 90)):
        name = f"pruned-{density}"
        options = {"density": density, "selection": "exact"}
        rows += [
            cell(
                name,
                "magnitude_pruning",
                HELD_IN,
                (("density", density),),
                kind="per_task",
            )
            | {"options": json.dumps(options)},
            *(
                row
                for row in scored(name, held_in, 0)
                if row.get("role") != "generalization"
            ),
            cost(name, "merge", 1, 1e6),
            {"table": "lineage", "child": name, "parent": "base"},
        ]
    return rows


def taken():
    """Say what it takes to store the models of `pruned`, and those for reference."""
    parts = {
        "pre": {"model": 4000},
        **{f"i{n}": {"experts": 3000, "frozen": 1000} for n in range(len(HELD_IN))},
        **{
            f"pruned-{density}": {"pretrained": 4000, "numbers": 9000 * density}
            for density in (0.1, 1.0)
        },
    }
    return [
        {
            "table": "storage",
            "cell": cell,
            "part": part,
            "bits": 8 * size,
            "bytes": size,
        }
        for cell, of_cell in parts.items()
        for part, size in of_cell.items()
    ]


def looked_at(key, experts, sample=0):
    """Say what a profile of some experts holds: a third of the entries in conflict."""
    shared = {"profile": key, "density": 0.2}
    masked = shared | {"merge_by": "ties", "mask_threshold": 0.4}
    summed = masked | {"merge_by": "task_arithmetic", "density": 1.0}
    whole = {"entries": 90, "redundant": 9, "kept": 60, "outvoted": 20}
    return [
        {
            "table": "profiles",
            "experiment": "profiled",
            "definition": "1",
            "profile": key,
            "kind": "profile" if len(experts) > 1 else "distribution",
            "experts": experts,
            "size": len(experts),
            "sample": sample,
        },
        *(
            {"table": "conflicts", **shared, **whole, "conflicting": 30, **density}
            for density in ({}, {"density": 1.0, "conflicting": 60})
        ),
        *(
            {
                "table": "magnitudes",
                **shared,
                "grouping": grouping,
                "level": level,
                "merging": merging,
                "entries": 30,
                "mean": 0.002 * (level + 1),
                "deviation": 0.001,
            }
            for grouping, levels in (("kept_by", (0, 1)), ("agreement", (0.5, 1)))
            for level in levels
            for merging in ("average", "trimmed", "elected", "both")
        ),
        *(
            {"table": "agreements", **merged, "tasks": tasks, "entries": 90 / 4}
            for merged in (masked, summed)
            for tasks in range(len(experts) + 1)
        ),
        *(
            {"table": "masks", **merged, "task": task, "entries": 30}
            for merged in (masked, summed)
            for task in experts
        ),
    ]


def layers(task):
    """Say what a distribution holds: an embedding, and weights of two layers."""
    names = ("embed", "blocks.0.attn.weight", "blocks.1.attn.weight")
    rows = looked_at(f"spread-{task}", [task])[:1]
    for place, name in enumerate(names):
        rows.append(
            {
                "table": "task_vectors",
                "profile": f"spread-{task}",
                "parameter": name,
                "place": place,
                "layer_kind": "attention" if place else "embedding",
                "depth": place - 1 if place else None,
                "layers": 2 if place else None,
                "entries": 100,
                "unchanged": 0,
                "norm": 0.02,
                "mean": 0.0,
                "deviation": 0.002,
                "magnitude": 0.001,
                "quantiles": [(level - 13) / 2e3 for level in range(27)],
            }
        )
    return rows


def vectors():
    """The rows of an experiment that looks at task vectors, and prunes them."""
    cells = [experiment(), *references(), *merges(), *pruned()]
    return [
        *({**row, "experiment": "profiled"} for row in cells if "definition" in row),
        *(row for row in cells if "definition" not in row),
        *taken(),
        *looked_at("all", HELD_IN),
        *looked_at("two", HELD_IN[:2], sample=1),
        *(row for task in HELD_IN for row in layers(task)),
    ]


LEARNED = {  # method and its swept options to held-in percent and examples per task
    ("supermerge", (("examples", 8),)): (66, 8),
    ("supermerge", (("examples", 32),)): (72, 32),
    ("adamerging", ()): (75, 0),
}


def taught(cell, method, held_in, examples):
    """Say what a step that learned a cell's coefficients holds."""
    is_supermerge = method == "supermerge"
    options = {
        "split": "validation" if is_supermerge else "test",
        "bound": "tanh" if is_supermerge else "unit",
    }
    parameters = (
        ("embed", "embedding", None, None),
        ("blocks.0.attn.weight", "attention", 0, 2),
        ("blocks.0.attn.bias", "attention", 0, 2),
        ("blocks.1.attn.weight", "attention", 1, 2),
    )
    return options, [
        {
            **cost(f"learn {cell}", "learn", 3, 1e9),
            "examples": 960,
            "labelled": len(HELD_IN) * examples,
            "unlabelled": 0 if is_supermerge else 600,
            "paper_memory": 4e6,
            "peak_memory": 5e8,
        },
        {"table": "lineage", "child": cell, "parent": f"learn {cell}"},
        *(
            {
                "table": "coefficients",
                "step": f"learn {cell}",
                "task": task,
                "parameter": name,
                "place": place,
                "layer_kind": kind,
                "depth": depth,
                "layers": layers,
                "value": (held_in - 60) / 10 - place / 2,
            }
            for task in HELD_IN
            for place, (name, kind, depth, layers) in enumerate(parameters)
        ),
        *(
            {
                "table": "learning",
                "step": f"learn {cell}",
                "node": "",
                "updates": updates,
                "loss": None if updates == 0 else 1 / updates,
                "held_out": 1 / (updates + 1) if is_supermerge else None,
                "labels": None if is_supermerge else 1 - updates / 25,
                "collapsed": [] if is_supermerge else ["b/2"],
                "trained": 12,
                "together": 3,
            }
            for updates in (0, 10, 20)
        ),
    ]


def learned():
    """The rows of an experiment that learns coefficients, once from test inputs."""
    cells = [experiment(), *references(), *merges()]
    rows = [
        *({**row, "experiment": "learned"} for row in cells if "definition" in row),
        *(row for row in cells if "definition" not in row),
    ]
    for (method, swept), (held_in, examples) in LEARNED.items():
        name = f"learned-{method}-{dict(swept)}"
        options, steps = taught(name, method, held_in, examples)
        made = cell(name, method, HELD_IN, swept)
        rows += [
            made
            | {
                "experiment": "learned",
                "options": json.dumps(options | dict(swept)),
            },
            *scored(name, held_in, held_in - 5),
            cost(name, "merge", 1, 1e6),
            *steps,
        ]
    two = cell("learned-two", "adamerging", HELD_IN[:2], sample=1)
    return [
        *rows,
        two | {"experiment": "learned", "options": json.dumps({"split": "validation"})},
        *scored("learned-two", 66, 61, HELD_IN[:2]),
    ]


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Build a database from rows."""

    def build_from(rows):
        path = tmp_path_factory.mktemp("root")
        root = SimpleNamespace(local=path, cache=path / ".cache")
        results = Results(root, Memory({"all": rows}))
        results.refresh()
        return results

    return build_from


@pytest.fixture(scope="session")
def small_rows():
    """What the ledger holds of the whole small experiment."""
    return [experiment(), *references(), *merges()]


@pytest.fixture(scope="session")
def small(build, small_rows):
    """The whole small experiment."""
    return build(small_rows)


@pytest.fixture(scope="session")
def ask(small):
    """Ask a question about the small experiment; give the rows."""

    def answer(question, **values):
        values = {"experiment": "small", "subset": 1} | values
        return questions.ask(small, question, values).rows

    return answer


@pytest.fixture(scope="session")
def studied(build):
    """An experiment that repeats studies of the papers."""
    return build(studies())


@pytest.fixture(scope="session")
def ask_studied(studied):
    """Ask a question about that experiment; give the rows."""

    def answer(question, **values):
        values = {"experiment": "studies", "subset": 1} | values
        return questions.ask(studied, question, values).rows

    return answer


@pytest.fixture(scope="session")
def profiled(build):
    """An experiment that looks at task vectors."""
    return build(vectors())


@pytest.fixture(scope="session")
def learning_database(build):
    """An experiment that learns coefficients."""
    return build(learned())


@pytest.fixture(scope="session")
def ask_learned(learning_database):
    """Ask a question about that experiment; give the rows."""

    def answer(question, **values):
        values = {"experiment": "learned", "subset": 1} | values
        return questions.ask(learning_database, question, values).rows

    return answer


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """Store rows under a root of their own; give its directory."""

    def store(rows):
        root = Root.open(str(tmp_path_factory.mktemp("stored") / "root"))
        if rows:
            Ledger(root).append("all", rows)
        Results(root, Ledger(root)).refresh()
        return root.local

    return store


@pytest.fixture(scope="session")
def whole(stored, small_rows):
    """The root of the whole small experiment; nobody adds to it."""
    return stored(small_rows)


@pytest.fixture(scope="session")
def stages_of_a_run():
    """What the ledger holds when a run is cut off, by how far it had come."""
    merged = merges()
    cells = [row for row in merged if row["table"] == "cells"]
    first = cells[0]["cell"]
    return {
        "nothing": [experiment()],
        "references": [experiment(), *references()],
        "cells": [experiment(), *references(), *cells],
        "one merge": [
            experiment(),
            *references(),
            *cells,
            *(row for row in merged if row.get("cell", row.get("step")) == first),
        ],
        "no references": [experiment(), *merged],
    }


@pytest.fixture(scope="session")
def whole_studies(stored):
    """The root of the experiment that repeats studies; nobody adds to it."""
    return stored(studies())


@pytest.fixture(scope="session")
def whole_profiled(stored):
    """The root of the experiment that looks at task vectors; nobody adds to it."""
    return stored(vectors())


@pytest.fixture(scope="session")
def whole_learned(stored):
    """The root of the experiment that learns coefficients; nobody adds to it."""
    return stored(learned())
