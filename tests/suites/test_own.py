"""Models and tasks of one's own."""

from pathlib import Path

import datasets
import pytest
from safetensors.torch import load_file, save_file

from mergegrid.documents import parse_mapping
from mergegrid.errors import InputError
from mergegrid.experiment import parse_experiment
from mergegrid.experiment_steps import build_steps
from mergegrid.models import get_family

WORDS = ["good", "bad", "fine", "poor", "it", "was", "is", "the", "film", "yes", "no"]
ARCHITECTURE = {
    "config": {
        "model_type": "gpt2",
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "n_positions": 32,
    },
    "vocabulary": WORDS,
    "prompt_tokens": 16,
    "answer_tokens": 4,
}
GIVEN = {key: value for key, value in ARCHITECTURE.items() if key != "config"}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Save a model, two experts of it, and a data set, as people have them."""
    shelf = tmp_path_factory.mktemp("shelf")
    family = get_family("causal")
    for seed, name in enumerate(("base", "good", "bad")):
        (shelf / name).mkdir()
        family.save(family.create(ARCHITECTURE, seed=seed), shelf / name)
    rows = [
        {"text": f"the film was {word}", "label": int(word in {"good", "fine"})}
        for word in ("good", "bad", "fine", "poor") * 3
    ]
    splits = {name: datasets.Dataset.from_list(rows) for name in ("train", "held")}
    datasets.DatasetDict(splits).save_to_disk(shelf / "films" / "default")
    return shelf


@pytest.fixture
def suite(shelf):
    """Make the suite's section; keyword arguments replace keys of its first task."""

    def make(**changes):
        task = {
            "data": {"name": "films", "saved": str(shelf)},
            "splits": {"validation": "held[:4]", "test": "held[4:]"},
            "prompt": "{text} is it good",
            "choices": ["no", "yes"],
            "label": "label",
        }
        return {
            "name": "own",
            "family": "causal",
            "pretrained": str(shelf / "base"),
            "architecture": GIVEN,
            "tasks": {
                "good": task | {"expert": str(shelf / "good")} | changes,
                "bad": task | {"expert": str(shelf / "bad")},
                "other": task,
            },
        }

    return make


def opened(section):
    document = {"name": "mine", "suite": section, "grid": [{"methods": ["average"]}]}
    return parse_experiment(document, source="test")


def test_tasks_with_an_expert_are_held_in_and_the_others_measure_generalization(suite):
    tasks = opened(suite()).open_suite().tasks()
    assert [(t.name, t.held_in, t.metric) for t in tasks] == [
        ("good", True, "choice"),
        ("bad", True, "choice"),
        ("other", False, "choice"),
    ]


def test_experts_are_imported_and_not_trained(suite):
    steps = build_steps(opened(suite()))
    names = sorted(step.name for step in steps.artifacts.values())
    assert names == ["data", "import", "import", "import"]


def test_rows_become_questions_with_the_right_choice(suite, tmp_path):
    own = opened(suite()).open_suite()
    own.prepare(tmp_path)
    texts = own.open(tmp_path).examples("other", "test")
    assert len(texts) == own.counts()["other.test"] == 8
    assert texts[:2][1].prompt == "the film was bad is it good"
    assert [text.answers for text in texts[:2]] == [("yes",), ("no",)]


def test_the_architecture_is_what_the_models_files_say(suite):
    architecture = opened(suite()).open_suite().architecture()
    assert architecture["config"]["n_embd"] == 16
    assert architecture["answer_tokens"] == 4


def test_a_model_is_known_by_its_content_and_not_by_its_place(suite, shelf, tmp_path):
    first = build_steps(opened(suite())).experts["good"].key
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in (shelf / "good").iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert build_steps(opened(suite(expert=str(moved)))).experts["good"].key == first
    parameters = load_file(moved / "model.safetensors")
    name = min(parameters)
    changed = parameters | {name: parameters[name] + 1}
    save_file(changed, moved / "model.safetensors", metadata={"format": "pt"})
    assert build_steps(opened(suite(expert=str(moved)))).experts["good"].key != first


def test_data_of_a_task_that_gets_an_expert_are_others(suite, shelf):
    section = suite()
    before = build_steps(opened(section)).data.key
    section["tasks"]["other"]["expert"] = str(shelf / "good")
    assert build_steps(opened(section)).data.key != before


def test_ranges_may_be_in_percent(suite):
    splits = {"validation": "held[:25%]", "test": "held[-75%:]"}
    own = opened(suite(splits=splits)).open_suite()
    assert own.counts()["good.validation"] == 3
    assert own.counts()["good.test"] == 9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": None}, "write either prompt, for texts, or image"),
        ({"metric": "bleu"}, "metric 'bleu'"),
        ({"splits": {"test": "held"}}, "splits has no validation"),
        ({"splits": {"validation": "held", "test": "held[1"}}, "is no split"),
        ({"label": None}, "write either label or answers"),
        ({"expert": None, "train": True}, "splits has no train"),
    ],
)
def test_what_is_wrong_with_a_task_is_said_in_one_line(suite, changes, said):
    with pytest.raises(InputError, match=said) as caught:
        opened(suite(**changes))
    assert "\n" not in str(caught.value)
    assert "good" in str(caught.value)


def test_a_column_that_is_not_there_is_named_with_those_that_are(suite, tmp_path):
    own = opened(suite(prompt="{txt} is it good")).open_suite()
    with pytest.raises(InputError, match=r"column of films 'txt'.*'text'"):
        own.prepare(tmp_path)


def test_a_label_without_a_choice_is_refused(suite, tmp_path):
    own = opened(suite(choices=["no"])).open_suite()
    with pytest.raises(InputError, match="label 1 is none of the 1 choices"):
        own.prepare(tmp_path)


def test_a_model_that_is_not_there_is_named(suite):
    section = suite() | {"pretrained": "nowhere/at/all"}
    with pytest.raises(InputError, match=r"nowhere/at/all"):
        build_steps(opened(section))


def test_pickled_parameters_are_refused(suite, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"safetensors.*[Pp]ickled"):
        build_steps(opened(suite(expert=str(tmp_path))))


def test_the_guides_experiment_is_understood():
    guide = Path("docs/own.md").read_text(encoding="utf-8")
    written = guide.split("```yaml\n")[1].split("```")[0]
    experiment = parse_experiment(
        parse_mapping(written, source="guide"), source="guide"
    )
    tasks = experiment.open_suite().tasks()
    assert [(task.name, task.held_in) for task in tasks] == [
        ("films", True),
        ("meals", True),
        ("music", True),
    ]
