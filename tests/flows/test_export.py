"""A cell's model made again, from a small experiment run without a server."""

import json

import pytest
import torch

from flows.export import CELL_FILE
from mergegrid.evaluation import evaluate
from mergegrid.experiment import parse_experiment
from mergegrid.experiment_steps import build_steps
from storage.root import Root
from tasks.measure import measure_gram
from tasks.merge import score_cells
from tasks.record import cell_row, experiment_row
from tasks.step import make
from tasks.train import prepare_data, pretrain, train_expert, train_multitask
from tasks.trim import find_threshold
from tasks.workspace import Workspace

pytestmark = pytest.mark.slow

COMPUTE = {
    "data": prepare_data,
    "pretrain": pretrain,
    "train": train_expert,
    "multitask": train_multitask,
    "gram": measure_gram,
    "trim": find_threshold,
}
GRID = [
    "regmean",
    {"name": "task_arithmetic", "options": {"scale": [0.2, 0.4]}},
    {"name": "dare", "options": {"drop_rate": 0.5, "scale": "best"}},
    {"name": "tall_masks", "options": {"mask_threshold": 0.4}},
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    training = {"steps": 40, "batch_size": 16, "learning_rate": 0.003}
    document = {
        "name": "tiny",
        "suite": {
            "name": "glyphs",
            "categories": 2,
            "classes_per_category": 2,
            "train": 24,
            "validation": 4,
            "test": 24,
            "generalization": 12,
            "pretraining": 8,
            "layers": 1,
            "width": 32,
            "digits": False,
        },
        "training": dict.fromkeys(("pretrain", "expert", "multitask"), training),
        "statistics": {"gram": {"examples": 4}},
        "grid": [{"methods": GRID}],
    }
    experiment = parse_experiment(document, source="test")
    root = Root.open(str(tmp_path_factory.mktemp("export") / "root"))
    made = Workspace(experiment, build_steps(experiment), root)
    for step in made.steps.artifacts.values():
        make(made, step, COMPUTE[step.name])
    references = [e for e in made.steps.scored.values() if e.is_reference]
    cells = [e for e in made.steps.scored.values() if not e.is_reference]
    rows = [cell_row(made.steps, entry, {}) for entry in references]
    made.ledger.append("experiment-tiny", [experiment_row(made.steps), *rows])
    for waits in (False, True):
        score_cells(made, [e.step.key for e in cells if bool(e.best_of) == waits])
    return made


def cell_of(workspace, method):
    return next(
        key
        for key, entry in workspace.steps.scored.items()
        if entry.cell.method == method
    )


def scored(workspace, key):
    return {
        (row["task"], row["split"]): row["correct"]
        for row in workspace.ledger.rows(key)
        if row["table"] == "scores"
    }


def scores_of(workspace, model, wanted):
    return {
        key: evaluate(model, workspace.test_examples(model, *key)).correct
        for key in wanted
    }


@pytest.mark.parametrize("method", ["regmean", "task_arithmetic", "dare"])
def test_an_exported_model_scores_what_its_cell_scored(
    workspace, ask, tmp_path, method
):
    key = cell_of(workspace, method)
    ask("export", key, tmp_path / "out", "--root", workspace.root.url)
    model = workspace.family.load(tmp_path / "out")
    assert scores_of(workspace, model, scored(workspace, key)) == scored(workspace, key)
    other = workspace.model()  # which the scores can tell apart
    assert scores_of(workspace, other, scored(workspace, key)) != scored(workspace, key)


def test_the_scale_that_was_chosen_is_exported(workspace, ask, tmp_path):
    key = cell_of(workspace, "task_arithmetic")
    entry = workspace.steps.scored[key]
    ask("export", key, tmp_path / "out", "--root", workspace.root.url)
    merged = workspace.family.load(tmp_path / "out").state_dict()
    pretrained = workspace.parameters(workspace.steps.pretrained.key)
    experts = [workspace.parameters(of) for of in entry.models.values()]
    for name, start in pretrained.items():
        change = sum(expert[name].double() - start.double() for expert in experts)
        expected = start.double() + entry.cell.options["scale"] * change
        torch.testing.assert_close(merged[name].double(), expected, atol=1e-6, rtol=0)


def test_a_method_with_a_model_for_each_task_exports_each(workspace, ask, tmp_path):
    key = cell_of(workspace, "tall_masks")
    ask("export", key, tmp_path / "out", "--root", workspace.root.url)
    for (task, split), correct in scored(workspace, key).items():
        model = workspace.family.load(tmp_path / "out" / task)
        assert scores_of(workspace, model, [(task, split)]) == {(task, split): correct}


def test_the_directory_says_what_it_is(workspace, ask, tmp_path):
    key = cell_of(workspace, "dare")
    ask("export", key, tmp_path / "out", "--root", workspace.root.url)
    about = json.loads((tmp_path / "out" / CELL_FILE).read_text())
    assert about["cell"] == key
    assert about["recipe"]["options"]["scale"] in {0.2, 0.4}  # not "best"
    assert about["experts"] == dict(workspace.steps.scored[key].models)


def test_what_is_there_stays_unless_it_is_replaced(workspace, ask, tmp_path):
    key, out = cell_of(workspace, "regmean"), tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("")
    said = ask("export", key, out, "--root", workspace.root.url, status=2)
    assert "exists already" in said
    assert [file.name for file in out.iterdir()] == ["mine"]
    ask("export", key, out, "--force", "--root", workspace.root.url)
    assert not (out / "mine").exists()


def test_what_is_no_merge_is_one_line(workspace, ask, tmp_path):
    reference = cell_of(workspace, "multitask")
    for key, said in (
        ("cell-v2-0", "There is no cell 'cell-v2-0' in"),
        (reference, f"Nothing was merged in {reference}"),
    ):
        out = tmp_path / "out"
        line = ask("export", key, out, "--root", workspace.root.url, status=2)
        assert line.startswith(f"error: {said}")
        assert line.count("\n") == 1
        assert not out.exists()


def test_a_family_without_adapters_says_so(workspace, ask, tmp_path):
    key, out = cell_of(workspace, "regmean"), tmp_path / "out"
    said = ask("export", key, out, "--rank", 2, "--root", workspace.root.url, status=2)
    assert "Models of the family open_clip have no adapters" in said
    assert not out.exists()
