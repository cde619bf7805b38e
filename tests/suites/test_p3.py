"""The suites of prompted English tasks, on a replica of their data sets."""

import random

import pytest
import torch
from pydantic import ValidationError

from mergegrid.errors import InputError
from mergegrid.models import get_family
from mergegrid.suites import SUITES
from mergegrid.suites.p3_data import sets
from tests.replicas.p3 import ROWS, make

NAMES = ("nlp7", "qa8", "p3_11")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return make(tmp_path_factory.mktemp("replica"))


@pytest.fixture(scope="module")
def prepared(options, tmp_path_factory):
    found = {}
    for name in NAMES:
        suite = SUITES[name](**options)
        directory = tmp_path_factory.mktemp(name)
        suite.prepare(directory)
        found[name] = suite, suite.open(directory)
    return found


@pytest.mark.parametrize(
    ("name", "held_in", "others"), [("nlp7", 7, 6), ("qa8", 8, 0), ("p3_11", 11, 8)]
)
def test_tasks_are_those_of_the_papers(name, held_in, others):
    tasks = SUITES[name]().tasks()
    assert sum(task.held_in for task in tasks) == held_in
    assert sum(not task.held_in for task in tasks) == others
    assert {task.name: task.metric for task in tasks if task.metric != "choice"} == (
        {} if name == "nlp7" else {"ropes": "squad"}
    )


def test_test_splits_have_the_sizes_that_supermerge_prints():
    counts = SUITES["p3_11"]().counts()
    rows = {
        task.name: SUITES["p3_11"]().parts()[f"{task.name}.test"]
        for task in SUITES["p3_11"]().tasks()
    }
    sizes = {
        name: counts[f"{name}.test"] // len(part.wording().wordings("en"))
        for name, part in rows.items()
    }
    assert sizes == {
        "rte": 245, "cb": 24, "winogrande": 1235, "wic": 606, "wsc": 72, "copa": 68,
        "hellaswag": 10_010, "story_cloze": 1839, "anli_r1": 1000, "anli_r2": 1000,
        "anli_r3": 1200, "cosmos_qa": 2953, "social_iqa": 1922, "paws": 8000,
        "quail": 556, "wiki_qa": 6165, "quartz": 784, "qasc": 894, "ropes": 1656,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "entries"),
    [
        ("nlp7", {}, 223e6),
        ("nlp7", {"model": "t5-large"}, 737.7e6),
        ("qa8", {}, 783e6),
        ("p3_11", {}, 2.85e9),
    ],
)
def test_models_are_as_large_as_they_are_published(name, options, entries):
    suite = SUITES[name](**options)
    family = get_family(suite.family)
    with torch.device("meta"):
        model = family.create(suite.architecture(), seed=0)
    count = sum(tensor.numel() for tensor in model.parameters())
    assert count == pytest.approx(entries, rel=0.002)
    assert suite.pretrained().bytes == pytest.approx(4 * count, rel=0.003)


def test_only_vectors_are_trained_of_t0():
    suite = SUITES["p3_11"]()
    family = get_family(suite.family)
    with torch.device("meta"):
        model = family.create(suite.architecture(), seed=0)
    family.freeze(model)
    vectors = family.merged_parameters(model)
    # Keys and values of 24 encoder and twice 24 decoder layers, the inner size of 48.
    assert sum(v.numel() for v in vectors.values()) == 72 * 2 * 2048 + 48 * 5120


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_is_what_was_counted(prepared, name):
    suite, data = prepared[name]
    for part, count in suite.counts().items():
        task, split = part.rsplit(".", 1)
        assert len(data.examples(task, split)) == count, part


def test_validation_is_drawn_as_the_authors_of_ties_drew_it(options):
    loose = SUITES["nlp7"](**(options | {"most": None}))
    order = list(range(ROWS))
    random.seed(42)
    random.shuffle(order)
    facts = sets()["winogrande"]
    rows = facts.source.open("validation", (), options["saved"])
    parts = loose.parts()

    def asked(split):
        texts = parts[f"winogrande.{split}"].texts(loose.saved)
        return [text.choices for text in texts]

    choices = [(rows[i]["option1"], rows[i]["option2"]) for i in order]
    assert asked("validation") == choices[:4]
    assert asked("test") == choices[4:]


def test_a_test_with_answers_is_left_whole(options):
    loose = SUITES["nlp7"](**(options | {"most": None}))
    assert loose.parts()["quartz.test"].selection.split == "test"
    assert loose.counts()["quartz.test"] == ROWS
    assert SUITES["nlp7"]().parts()["quail.test"].selection.split == "challenge"


def test_mats_splits_training_and_tests_on_the_official_validation():
    counts = SUITES["qa8"]().counts()
    assert counts["cosmos_qa.train"] == 2 * (25_262 - 1000)
    assert counts["qasc.validation"] == 500
    assert counts["quartz.validation"] == 200
    assert counts["paws.test"] == 8000
    parts = SUITES["qa8"]().parts()
    assert parts["paws.test"].selection.split == "validation"


def test_scores_of_t0_are_medians_over_templates(prepared):
    _, data = prepared["p3_11"]
    asked = data.examples("rte", "test")[:]
    assert [text.template for text in asked[:5]] == [0, 1, 2, 3, 0]
    assert len({text.prompt for text in asked[:4]}) == 4
    _, few = prepared["nlp7"]
    assert {text.template for text in few.examples("wsc", "test")[:]} == {0}


def test_answers_are_among_the_choices(prepared):
    for name in NAMES:
        suite, data = prepared[name]
        for task in suite.tasks():
            for text in data.examples(task.name, "test")[:]:
                if task.metric == "choice":
                    assert text.answers[0] in text.choices
                    assert len(text.choices) > 1
                else:
                    assert text.choices == ()
                assert text.prompt
                assert all(text.answers)


def test_the_story_cloze_test_has_to_be_asked_for(options, tmp_path):
    without = {name: value for name, value in options.items() if name != "story_cloze"}
    with pytest.raises(InputError, match=r"on request only.*`story_cloze`.*`without"):
        SUITES["nlp7"](**without).prepare(tmp_path)
    listed = [fetch for fetch in SUITES["nlp7"]().fetches() if "Cloze" in fetch.what]
    assert [fetch.licence for fetch in listed] == ["on request"]


def test_a_folder_without_the_story_cloze_test_is_refused(options, tmp_path):
    wrong = options | {"story_cloze": str(tmp_path)}
    with pytest.raises(InputError, match=r"no Story Cloze Test in .*cloze_test_ALL_"):
        SUITES["nlp7"](**wrong).prepare(tmp_path)


def test_tasks_can_be_left_out(options, tmp_path):
    without = {name: value for name, value in options.items() if name != "story_cloze"}
    suite = SUITES["nlp7"](**without, without=["story_cloze"])
    assert "story_cloze" not in {task.name for task in suite.tasks()}
    suite.prepare(tmp_path)
    with pytest.raises(ValidationError, match="Did you mean 'story_cloze'"):
        SUITES["nlp7"](without=["story_clozes"])


def test_models_of_one_suite_share_its_data():
    nlp7 = SUITES["nlp7"]
    assert nlp7(model="t5-base").options() == nlp7(model="t5-large").options()
    assert nlp7(splits="mats").options() != nlp7().options()


def test_an_export_is_read_by_the_folder_of_its_configuration(monkeypatch):
    asked = []

    def load_dataset(name, config, **options):
        asked.append((name, config, options["data_dir"], options["revision"]))
        raise ConnectionError("no network")

    monkeypatch.setattr("mergegrid.suites.hub_data.load_dataset", load_dataset)
    for task in ("winogrande", "hellaswag", "paws"):
        with pytest.raises(
            InputError, match=r"Cannot fetch .* \(no network\)\. Save it"
        ):
            sets()[task].source.open("train", ())
    assert asked == [
        ("allenai/winogrande", None, "winogrande_xl", "refs/convert/parquet"),
        ("Rowan/hellaswag", None, "default", "refs/convert/parquet"),
        ("google-research-datasets/paws", "labeled_final", None, None),
    ]
