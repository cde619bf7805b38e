"""The cross-lingual suite, on a replica of its data sets."""

import collections

import datasets
import pytest
import torch
from pydantic import ValidationError

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.models import get_family
from mergegrid.suites.cross_lingual import HELD_IN, CrossLingual
from mergegrid.suites.hub_data import HubData
from tests.replicas.cross_lingual import make


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return make(tmp_path_factory.mktemp("replica"))


@pytest.fixture(scope="module")
def suite(options):
    return CrossLingual(**options)


@pytest.fixture(scope="module")
def data(suite, tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    suite.prepare(directory)
    return suite.open(directory)


def test_five_pairs_are_held_in_and_fifteen_measure_generalization():
    tasks = CrossLingual().tasks()
    held_in = {task.category: task.domain for task in tasks if task.held_in}
    others = collections.Counter(task.category for task in tasks if not task.held_in)
    assert held_in == dict(HELD_IN)
    assert len(set(held_in.values())) == 5
    assert others == {
        "question_answering": 3,
        "entailment": 3,
        "summarization": 4,
        "word_sense": 2,
        "answerability": 3,
    }


def test_answers_are_scored_as_in_the_paper():
    metrics = {task.category: task.metric for task in CrossLingual().tasks()}
    assert metrics == {
        "question_answering": "squad",
        "entailment": "choice",
        "summarization": "rouge",
        "word_sense": "choice",
        "answerability": "choice",
    }


def test_sizes_are_those_of_the_data_sets():
    counts = CrossLingual().counts()
    assert counts["question_answering/en.validation"] == 1000
    assert counts["question_answering/en.test"] == 10_570
    assert counts["question_answering/th.test"] == 200
    assert counts["entailment/ar.test"] == 5010
    assert counts["summarization/th.test"] == 2500
    assert counts["word_sense/ko.test"] == 1014
    assert counts["answerability/ko.test"] == 1698
    # Two templates for each of the rows that are trained on.
    assert counts["question_answering/en.train"] == 2 * (87_599 - 1000)
    assert counts["summarization/th.train"] == 2 * (5093 - 1000 - 2500)


def test_a_plan_needs_nothing_downloaded():
    fetched = [fetch.what for fetch in CrossLingual().fetches()]
    assert len(fetched) == len(set(fetched)) == 17
    architecture = CrossLingual().architecture()
    family = get_family(CrossLingual().family)
    with torch.device("meta"):
        model = family.create(architecture, seed=0)
    entries = sum(tensor.numel() for tensor in model.parameters())
    assert entries == pytest.approx(3.74e9, rel=0.002)
    assert CrossLingual().pretrained().bytes == pytest.approx(4 * entries, rel=0.002)


def test_what_was_written_is_what_was_counted(suite, data):
    for name, count in suite.counts().items():
        task, split = name.rsplit(".", 1)
        assert len(data.examples(task, split)) == count, name


def texts(data, task, split):
    return data.examples(task, split)[:]


def rows(options, name, config, split):
    return HubData(name, config).open(split, (), options["saved"])


def test_splits_of_one_training_set_share_no_row(options):
    loose = CrossLingual(**(options | {"most": None}))
    for task in ("question_answering/en", "summarization/th", "answerability/ko"):
        parts = [loose.parts()[f"{task}.{split}"] for split in ("train", "validation")]
        prompts = [{text.prompt for text in part.texts(loose.saved)} for part in parts]
        assert prompts[0]
        assert not prompts[0] & prompts[1]


def test_validation_is_the_end_of_training_and_test_the_official_validation(options):
    loose = CrossLingual(**(options | {"most": None}))
    train = rows(options, "rajpurkar/squad", None, "train")
    official = rows(options, "rajpurkar/squad", None, "validation")
    parts = loose.parts()
    found = [*parts["question_answering/en.validation"].texts(loose.saved)]
    assert [text.answers[0] for text in found] == [
        train[index]["answers"]["text"][0] for index in range(20, 24)
    ]
    tested = [*parts["question_answering/en.test"].texts(loose.saved)]
    assert [text.answers for text in tested] == [
        tuple(row["answers"]["text"]) for row in official
    ]


def test_training_asks_with_every_template_and_evaluation_with_one_after_the_other(
    data,
):
    trained = texts(data, "entailment/ar", "train")
    assert [text.template for text in trained[:4]] == [0, 1, 0, 1]
    asked = texts(data, "entailment/ar", "test")
    # Not told apart: a median over templates would be over different questions.
    assert {text.template for text in asked} == {0}
    assert asked[0].choices != asked[1].choices
    assert asked[0].choices == asked[2].choices


def test_questions_are_put_in_their_own_language(data):
    assert "질문" in texts(data, "answerability/ko", "test")[0].prompt
    assert "คำถาม" in texts(data, "answerability/th", "test")[0].prompt
    assert texts(data, "word_sense/de", "test")[0].choices == ("Nein", "Ja")


def test_only_rows_of_a_tasks_own_language_are_asked(options, data):
    everyone = rows(
        options, "google-research-datasets/tydiqa", "primary_task", "validation"
    )
    own = [row["question_text"] for row in everyone if row["language"] == "thai"]
    asked = texts(data, "answerability/th", "test")
    assert all(
        question in text.prompt for question, text in zip(own, asked, strict=False)
    )


def test_articles_without_text_are_left_out(options):
    loose = CrossLingual(**(options | {"most": None}))
    counts = loose.counts()
    articles = sum(
        counts[f"summarization/th.{split}"] // (2 if split == "train" else 1)
        for split in ("train", "validation", "test")
    )
    assert articles == 23  # of 24, one is empty


def test_where_things_lie_is_no_part_of_what_they_are(options):
    elsewhere = {"saved": "/other", "pretrained_at": "/other/model"}
    assert CrossLingual(**options).options() == (
        CrossLingual(**(options | elsewhere)).options()
    )
    assert CrossLingual().options() != CrossLingual(validation=500).options()


def test_wording_is_part_of_what_the_data_are(monkeypatch):
    before = CrossLingual().options()
    monkeypatch.setattr("mergegrid.suites.text_data.load_prompts", _reworded)
    after = CrossLingual().options()
    assert before["prompts"].keys() == after["prompts"].keys()
    changed = [
        n for n in before["prompts"] if before["prompts"][n] != after["prompts"][n]
    ]
    assert changed == ["xnli"]


def _reworded(name):
    from mergegrid.suites.prompts import load_prompts

    read = load_prompts(name)
    if name != "xnli":
        return read
    return read.model_copy(update={"label": "other"})


def test_the_models_own_configuration_counts(suite):
    config = suite.architecture()["config"]
    assert config["d_model"] == 16
    assert config["model_type"] == "mt5"
    assert not config["tie_word_embeddings"]
    family = get_family(suite.family)
    with suite.pretrained().fetched() as directory:
        model = family.import_model(directory, suite.architecture())
    assert model.tokenizer("x").input_ids[-1] == 1


def test_a_place_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no file there ends in \.safetensors"):
        CrossLingual(pretrained_at=str(tmp_path)).architecture()


def test_a_saved_data_set_with_other_columns_is_refused(tmp_path):
    suite = CrossLingual(saved=str(tmp_path))
    part = suite.parts()["question_answering/en.test"]
    made = datasets.Dataset.from_dict({"passage": ["a"], "question": ["b"]})
    splits = datasets.DatasetDict({"train": made, "validation": made})
    splits.save_to_disk(part.source.folder(tmp_path))
    with pytest.raises(InputError, match=r"/en.train: .*squad 'answers'.*passage"):
        suite.prepare(tmp_path)


def test_too_many_rows_to_validate_on_leave_none_to_train_on(options, tmp_path):
    greedy = CrossLingual(**(options | {"validation": 24}))
    with pytest.raises(InputError, match=r"nothing is left of the split train of rajp"):
        greedy.prepare(tmp_path)


def test_unknown_parts_and_experts_are_refused(data):
    with pytest.raises(UnknownNameError, match="part of cross_lingual"):
        data.examples("question_answering/ar", "train")
    with pytest.raises(ValidationError, match="no held-in task"):
        CrossLingual(experts={"question_answering/ar": "/somewhere"})
    with pytest.raises(InputError, match="starts from a published model"):
        data.pretraining()
