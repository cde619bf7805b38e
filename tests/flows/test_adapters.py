"""Experts that are adapters go through the whole pipeline, without a server."""

import json
import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from mergegrid.experiment import parse_experiment
from mergegrid.experiment_steps import build_steps
from mergegrid.suites import SUITES
from mergegrid.suites.suite import Suite, Task
from mergegrid.suites.texts import Text, Texts
from storage.root import Root
from tasks.measure import measure_fisher, measure_gram, measure_norms
from tasks.merge import score_cells
from tasks.record import cell_row, experiment_row
from tasks.step import make
from tasks.train import prepare_data, pretrain, train_expert
from tasks.trim import find_threshold
from tasks.workspace import Workspace

pytestmark = pytest.mark.slow

COLOURS = ("red", "green", "blue", "grey")
RANK = 2
MODEL = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 16,
}
KINDS = {
    "lora": {"kind": "lora", "targets": ["q_proj", "v_proj", "o_proj"], "r": RANK},
    "ia3": {
        "kind": "ia3",
        "targets": ["k_proj", "v_proj", "down_proj"],
        "feedforward": ["down_proj"],
    },
}
RATES = {"lora": 0.01, "ia3": 0.1}
LINEAR = {
    "lora": [{"name": "regmean", "options": {"off_diagonal": 0.9}}],
    "ia3": [],  # whose vectors are no linear layer's weights
}
COMPUTE = {
    "data": prepare_data,
    "pretrain": pretrain,
    "train": train_expert,
    "gram": measure_gram,
    "fisher": measure_fisher,
    "norms": measure_norms,
    "trim": find_threshold,
}


class Colours(Suite):
    """Which of two colours comes first, or last."""

    name: ClassVar = "colours"
    version: ClassVar = 1
    family: ClassVar = "adapters"
    kind: str

    def tasks(self):
        held_in = {"first": True, "last": True, "second": False}
        return tuple(Task(n, 1, n, "", h, "choice") for n, h in held_in.items())

    def architecture(self):
        vocabulary = [*COLOURS, "first", "last", "second"]
        sizes = {"prompt_tokens": 4, "answer_tokens": 2, "vocabulary": vocabulary}
        base = {"config": MODEL, **sizes}
        return {"family": "causal", "base": base, "adapter": KINDS[self.kind]}

    def counts(self):
        splits = ("train", "validation", "test")
        held_in = [f"{name}.{s}" for name in ("first", "last") for s in splits]
        return dict.fromkeys([*held_in, "second.test", "pretraining"], 48)

    def prepare(self, directory, *, progress=None):
        for number, (part, count) in enumerate(self.counts().items()):
            generator = torch.Generator().manual_seed(number)
            drawn = torch.stack(
                [torch.randperm(4, generator=generator)[:2] for _ in range(count)]
            )
            (directory / part).write_text(json.dumps(drawn.tolist()))
            progress(number + 1, len(self.counts()))

    def open(self, directory):
        return ColoursData(directory)


class ColoursData:
    def __init__(self, directory):
        self.directory = directory

    def examples(self, task, split):
        return self._read(f"{task}.{split}", task, 0 if task == "first" else 1)

    def pretraining(self):
        examples = self._read("pretraining", "second", 1)
        return examples, examples

    def _read(self, part, asked, wanted):
        texts = []
        for pair in json.loads((self.directory / part).read_text()):
            named = [COLOURS[number] for number in pair]
            prompt = f"{' '.join(named)} {asked}"
            texts.append(Text(prompt, (named[wanted],), tuple(named)))
        return Texts(texts)


@pytest.fixture(scope="module", params=KINDS)
def workspace(request, tmp_path_factory):
    settings = {"steps": 60, "batch_size": 16, "learning_rate": 0.01, "patience": 9}
    document = {
        "name": "colours",
        "suite": {"name": "colours", "kind": request.param},
        "training": {
            "pretrain": settings,
            "expert": settings | {"learning_rate": RATES[request.param]},
        },
        "grid": [
            {
                "methods": [
                    "average",
                    "fisher",
                    {"name": "slerp"},
                    {"name": "knots", "options": {"scale": 1.0}},
                    {"name": "ties", "options": {"scale": 1.0, "density": 0.5}},
                    *LINEAR[request.param],
                ]
            }
        ],
    }
    with pytest.MonkeyPatch.context() as patched:
        module = SimpleNamespace(Colours=Colours)
        patched.setitem(sys.modules, "colours", module)
        patched.setitem(SUITES._places, "colours", "colours:Colours")
        experiment = parse_experiment(document, source="test")
        root = Root.open(str(tmp_path_factory.mktemp("adapters") / "root"))
        made = Workspace(experiment, build_steps(experiment), root)
        for step in made.steps.artifacts.values():
            make(made, step, COMPUTE[step.name])
        references = [e for e in made.steps.scored.values() if e.is_reference]
        rows = [cell_row(made.steps, entry, {}) for entry in references]
        made.ledger.append("experiment-colours", [experiment_row(made.steps), *rows])
        score_cells(made, list(cells(made)))
        yield made


def cells(workspace):
    return {k: e for k, e in workspace.steps.scored.items() if not e.is_reference}


def cell_of(workspace, method):
    return next(k for k, e in cells(workspace).items() if e.cell.method == method)


def scores(workspace, key):
    rows = [row for row in workspace.ledger.rows(key) if row["table"] == "scores"]
    return {(row["task"], row["split"]): row["correct"] for row in rows}


def merged(workspace, directory):
    return workspace.family.merged_parameters(workspace.family.load(directory))


def test_every_method_is_scored_on_every_task(workspace):
    methods = {entry.cell.method for entry in cells(workspace).values()}
    assert methods >= {"average", "fisher", "slerp", "knots", "ties"}
    assert ("regmean" in methods) == (workspace.suite.kind == "lora")
    for key in cells(workspace):
        assert {task for task, _ in scores(workspace, key)} == {
            "first",
            "last",
            "second",
        }


def test_experts_differ_from_the_pretrained_model_as_their_adapters_can(workspace):
    start = workspace.parameters(workspace.steps.pretrained.key)
    changes = []
    for step in workspace.steps.experts.values():
        expert = workspace.parameters(step.key)
        assert expert.keys() == start.keys()
        changes += [(expert[n] - start[n]).double() for n in start]
    assert max(change.abs().max() for change in changes) > 0.1
    for change in changes:
        rank = torch.linalg.matrix_rank(change, atol=1e-5).item()
        assert rank <= min(RANK, *change.shape)


def test_statistics_are_as_large_as_what_is_merged(workspace):
    start = workspace.parameters(workspace.steps.pretrained.key)
    is_lora = workspace.suite.kind == "lora"
    for step in workspace.steps.named("fisher", "gram"):
        expected = workspace.estimates.of[step.key]
        payload = workspace.store.path(step.key) / "statistic.safetensors"
        assert expected.bytes <= payload.stat().st_size
        assert (expected.bytes > 0) == (is_lora or step.name == "fisher")
    sizes = {n: tuple(t.shape) for n, t in start.items()}
    assert sizes == dict(workspace.estimates.layout)


def test_a_cell_is_exported_as_a_full_model(workspace, ask, tmp_path):
    key = cell_of(workspace, "average")
    ask("export", key, tmp_path / "out", "--root", workspace.root.url)
    found = merged(workspace, tmp_path / "out")
    experts = [workspace.parameters(k) for k in cells(workspace)[key].models.values()]
    for name, tensor in found.items():
        mean = sum(expert[name].double() for expert in experts) / len(experts)
        torch.testing.assert_close(tensor.double(), mean, rtol=1e-5, atol=1e-6)


def test_a_cell_is_exported_as_an_adapter_with_its_error(workspace, ask, tmp_path):
    key, out = cell_of(workspace, "average"), tmp_path / "out"
    errors = []
    for rank in (1, 2 * RANK):
        said = ask("export", key, out, "--rank", rank, "--force",
                   "--root", workspace.root.url)  # fmt: skip
        about = json.loads((out / "cell.json").read_text())["adapter"]
        assert about["rank"] == rank
        errors.append(about["relative_error"][""])
        assert f"relative error {errors[-1]:.2g}" in said
    read = workspace.family.import_expert(out, {}, workspace.model())
    ask("export", key, tmp_path / "full", "--root", workspace.root.url)
    full = merged(workspace, tmp_path / "full")
    torch.testing.assert_close(read, full, rtol=1e-5, atol=1e-5)
    # Of two products of rank 2 the mean has rank 4.
    assert errors[1] < 1e-4
    assert (errors[0] > 0.1) == (workspace.suite.kind == "lora")
