"""Tasks of lm-evaluation-harness, on its task files with small data of their own."""

import json
import random
import shutil
import sys
from pathlib import Path

import datasets
import pytest
import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mergegrid.documents import parse_mapping
from mergegrid.errors import InputError
from mergegrid.evaluation import evaluate
from mergegrid.experiment import parse_experiment
from mergegrid.experiment_steps import build_steps
from mergegrid.models import get_family
from mergegrid.statistics.fisher import diagonal_fisher
from tests.replicas.own import write_tasks

NOUNS = ["plot", "cast", "song", "band", "soup", "bread"]
WORDS = ["gripping", "dull", "süß", "fad", "trüb", "schön", "long", "and", "rather"]
QUESTIONS = {"train": 12, "validation": 10, "test": 24}
TASK = {
    "task": "words",
    "output_type": "multiple_choice",
    "training_split": "train",
    "validation_split": "validation",
    "test_split": "test",
    "doc_to_text": "The {{noun}} was",
    "doc_to_choice": "options",
    "doc_to_target": "gold",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    "metadata": {"version": 1},
}
WORDINGS = {
    "plain": {},
    "no delimiter": {"target_delimiter": "", "doc_to_text": "Q: {{noun}}\nA: "},
    "no question": {"doc_to_text": ""},
    "letters": {
        "doc_to_text": "{{noun}}\nA. {{options[0]}}\nB. {{options[1]}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C"],
        "doc_to_target": "{{'ABC'[gold]}}",
    },
    "description": {
        "description": "Reviews of many things.\n\n",
        "gen_prefix": "it was",
        "num_fewshot": 2,
    },
    "a program": {"doc_to_text": "!function words.ask", "process_docs": "words.some"},
}
PROGRAM = """
def ask(document):
    return f"Say of the {document['noun']}:"


def some(documents):
    return documents.filter(lambda document: document["noun"] != "soup")
"""


class Function(str):
    """A value that a task file marks as a function."""

    __slots__ = ()


class Dumper(yaml.SafeDumper):
    pass


Dumper.add_representer(
    Function, lambda dumper, value: dumper.represent_scalar("!function", value)
)


def rows(split, count):
    draw = random.Random(split)
    for _ in range(count):
        options = [" ".join(draw.sample(WORDS, n)) for n in (1, 2, 4)]
        draw.shuffle(options)
        yield {
            "noun": draw.choice(NOUNS),
            "options": options,
            "gold": draw.randrange(3),
        }


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Save data, and two models with a tokenizer of parts of words.

    That of the second begins every text with a token.
    """
    shelf = tmp_path_factory.mktemp("shelf")
    made = {split: [*rows(split, count)] for split, count in QUESTIONS.items()}
    for split, questions in made.items():
        lines = "".join(json.dumps(row) + "\n" for row in questions)
        (shelf / f"{split}.jsonl").write_text(lines)
    splits = {name: datasets.Dataset.from_list(part) for name, part in made.items()}
    datasets.DatasetDict(splits).save_to_disk(shelf / "saved" / "my--words" / "default")
    fast = Tokenizer(models.BPE(unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    specials = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator([" ".join(WORDS + NOUNS)] * 9, trainer)
    config = LlamaConfig(
        vocab_size=fast.get_vocab_size(),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
    )
    for seed, name in enumerate(("base", "begun")):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(shelf / name)
        if name == "begun":
            fast.post_processor = processors.TemplateProcessing(
                single="<s> $A", special_tokens=[("<s>", 1)]
            )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=fast, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
        tokenizer.save_pretrained(shelf / name)
    return shelf


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def write(shelf, tmp_path):
    """Write a task file; keyword arguments replace its keys. Give its folder."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "words.py").write_text(PROGRAM)

    def wrote(**changes):
        files = {split: str(shelf / f"{split}.jsonl") for split in QUESTIONS}
        where = {"dataset_path": "json", "dataset_kwargs": {"data_files": files}}
        task = {
            key: Function(value.removeprefix("!function "))
            if key in {"process_docs", "doc_to_text"}
            and value.startswith(("!function ", "words."))
            else value
            for key, value in (where | TASK | changes).items()
            if value is not None
        }
        text = yaml.dump(task, Dumper=Dumper)
        (folder / f"{task['task']}.yaml").write_text(text)
        return folder

    return wrote


@pytest.fixture
def suite(shelf):
    """Make the suite's section of tasks of the harness, by name."""

    def make(architecture=(), **tasks):
        return {
            "name": "own",
            "family": "causal",
            "pretrained": str(shelf / "base"),
            "architecture": {
                "prompt_tokens": 200,
                "answer_tokens": 40,
                **dict(architecture),
            },
            "tasks": {
                "held": {
                    "expert": str(shelf / "begun"),
                    "prompt": "{noun}",
                    "choices": "{options}",
                    "label": "gold",
                    "data": {"name": "my/words", "saved": str(shelf / "saved")},
                },
                **tasks,
            },
        }

    return make


def opened(section):
    document = {"name": "mine", "suite": section, "grid": [{"methods": ["average"]}]}
    return parse_experiment(document, source="test")


def named(folder, **more):
    return {"harness": {"task": "words", "include": str(folder), **more}}


@pytest.fixture
def texts(suite, tmp_path):
    """Prepare a task's data and give the texts of one split of it."""

    def give(task, split="test"):
        own = opened(suite(task=task)).open_suite()
        directory = tmp_path / "prepared"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        own.prepare(directory)
        found = own.open(directory).examples("task", split)
        assert len(found) == own.counts()[f"task.{split}"]
        return found

    return give


def our_model(place):
    config = json.loads((place / "config.json").read_text())
    sizes = {"config": config, "prompt_tokens": 200, "answer_tokens": 40}
    return get_family("causal").import_model(place, sizes).eval()


def their_model(place):
    return HFLM(str(place), device="cpu", dtype="float32", batch_size=8)


@pytest.fixture(scope="module")
def ours(shelf):
    return our_model(shelf / "base")


@pytest.fixture(scope="module")
def theirs(shelf):
    return their_model(shelf / "base")


def score(theirs, folder, **options):
    """Evaluate a task as the harness does: its results and, by document, its log."""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = simple_evaluate(
        theirs, tasks=["words"], task_manager=manager, bootstrap_iters=0, **options
    )
    samples = sorted(found["samples"]["words"], key=lambda sample: sample["doc_id"])
    return found["results"]["words"], samples


def compare(asked, ours, results, samples):
    """Compare scores, and the likelihood of every choice of every document."""
    examples = get_family("causal").encode(ours, asked)
    with torch.no_grad():
        found = ours.rank(examples[:])
    expected = [[float(ll) for ll, _ in s["filtered_resps"]] for s in samples]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-4)
    for metric, name in (("choice", "acc"), ("choice_per_character", "acc_norm")):
        tally = evaluate(ours, examples, metric=metric)
        assert tally.correct / tally.examples == pytest.approx(results[f"{name},none"])


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("shots", [None, 3])
def test_scores_and_likelihoods_are_the_harness_own(
    write, texts, ours, theirs, wording, shots
):
    folder = write(**WORDINGS[wording])
    found = score(theirs, folder, num_fewshot=shots)
    compare(texts(named(folder, shots=shots)), ours, *found)


def test_they_are_with_a_tokenizer_that_begins_texts(write, texts, shelf):
    ours, theirs = our_model(shelf / "begun"), their_model(shelf / "begun")
    for wording in ("plain", "no question"):
        folder = write(**WORDINGS[wording])
        compare(texts(named(folder)), ours, *score(theirs, folder))


def test_the_metrics_differ_so_that_their_equality_says_something(
    write, texts, ours, theirs
):
    folder = write(metric_list=[{"metric": "acc"}, {"metric": "acc_bytes"}])
    results, _ = score(theirs, folder)
    examples = get_family("causal").encode(ours, texts(named(folder)))
    tally = evaluate(ours, examples, metric="choice_per_byte")
    assert tally.correct / len(examples) == pytest.approx(results["acc_bytes,none"])
    assert results["acc_bytes,none"] != results["acc,none"]


def test_other_seeds_draw_other_examples_and_the_same_seed_the_same(write, texts):
    folder = write()

    def prompts(**options):
        return [text.prompt for text in texts(named(folder, shots=2, **options))[:]]

    assert prompts(seed=7) == prompts(seed=7) != prompts(seed=8)
    assert prompts() == prompts(seed=1234)


def test_a_question_is_never_among_its_own_examples(write, texts):
    folder = write(doc_to_text="{{noun}} {{options}}")
    task = named(folder, shots=11) | {"expert": "anything"}
    for text in texts(task, "train")[:]:
        examples = text.prompt.split("\n\n")
        assert len(examples) == 12
        assert not any(each.startswith(examples[-1]) for each in examples[:-1])


def test_a_task_with_one_evaluated_split_is_divided(write, texts, theirs):
    folder = write(validation_split=None)
    task = named(folder) | {"expert": "anything"}
    chosen, scored = texts(task, "validation")[:], texts(task)[:]
    whole = texts(named(folder) | {"splits": {"test": "test"}})[:]
    assert chosen + scored == whole
    assert len(chosen) == round(0.2 * QUESTIONS["test"])
    assert len(whole) == len(score(theirs, folder)[1])


def test_splits_can_be_taken_in_part(write, texts):
    splits = {"test": "train[-25%:]"}
    assert len(texts(named(write()) | {"splits": splits})) == QUESTIONS["train"] / 4


def test_saved_data_stand_in_for_those_of_the_hub(write, shelf, texts):
    local = texts(named(write()))[:]
    folder = write(dataset_path="my/words", dataset_kwargs=None)
    saved = texts(named(folder, saved=str(shelf / "saved")))[:]
    assert saved == local


def test_a_task_of_the_harness_itself_is_read_from_saved_data(texts, tmp_path):
    row = {
        "question": "what is red",
        "choices": {"text": ["a rose", "grass"], "label": ["A", "B"]},
        "answerKey": "B",
    }
    splits = ("train", "validation", "test")
    made = {split: datasets.Dataset.from_list([row]) for split in splits}
    place = tmp_path / "saved" / "allenai--ai2_arc" / "ARC-Easy"
    datasets.DatasetDict(made).save_to_disk(place)
    arc = {"harness": {"task": "arc_easy", "saved": str(tmp_path / "saved")}}
    (text,) = texts(arc)[:]
    assert text.prompt == "Question: what is red\nAnswer:"
    assert (text.separator, text.choices) == (" ", ("a rose", "grass"))
    assert text.answers == ("grass",)


def test_experts_are_trained_and_measured_on_its_documents(write, texts, ours):
    task = named(write(), shots=1) | {"train": True}
    with pytest.raises(InputError, match=r"training\.expert is missing"):
        texts(task)
    asked = texts(named(write(), shots=1) | {"expert": "anything"}, "train")
    examples = get_family("causal").encode(ours, asked)
    first = examples[:1]["label"][0]
    tokens = [token for token in first.tolist() if token >= 0]
    assert ours.tokenizer.decode(tokens) == f" {asked[:1][0].answers[0]}"
    fisher = diagonal_fisher(ours, examples, variant="empirical", limit=4)
    assert all(values.isfinite().all() for values in fisher.values())
    assert any(values.any() for values in fisher.values())


def key(section):
    return build_steps(opened(section)).data.key


def test_data_are_known_by_what_they_are_and_not_by_where_they_lie(
    write, suite, shelf, tmp_path
):
    folder = write(**WORDINGS["a program"])
    first = key(suite(task=named(folder)))
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    assert key(suite(task=named(moved))) == first
    for split in QUESTIONS:
        shutil.copy(shelf / f"{split}.jsonl", tmp_path / f"{split}.jsonl")
    text = (moved / "words.yaml").read_text()
    (moved / "words.yaml").write_text(text.replace(str(shelf), str(tmp_path)))
    assert key(suite(task=named(moved))) == first
    (tmp_path / "test.jsonl").write_text("")
    assert key(suite(task=named(moved))) != first
    (folder / "words.py").write_text(PROGRAM.replace("Say", "Speak"))
    assert key(suite(task=named(folder))) != first


def test_what_decides_the_questions_is_part_of_the_key(write, suite):
    folder = write()
    others = [
        named(folder),
        named(folder, shots=1),
        named(folder, seed=1),
        named(folder) | {"metric": "acc_norm"},
        named(folder) | {"splits": {"test": "validation"}},
        named(write(description="Answer.\n\n")),
    ]
    assert len({key(suite(task=task)) for task in others[:-1]}) == len(others) - 1
    write()
    before = key(suite(task=named(folder)))
    write(description="Answer.\n\n")
    assert key(suite(task=named(folder))) != before


def test_nothing_is_opened_to_say_what_will_be_fetched(suite):
    tasks = {name: {"harness": {"task": name}} for name in ("arc_easy", "mmlu_anatomy")}
    own = opened(suite(**tasks)).open_suite()
    assert [fetch.what for fetch in own.fetches()] == [
        "allenai/ai2_arc/ARC-Easy",
        "cais/mmlu/anatomy",
    ]
    found = {task.name: task.metric for task in own.tasks()}
    assert found == {"held": "choice", "arc_easy": "choice", "mmlu_anatomy": "choice"}
    assert own.options()["tasks"]["mmlu_anatomy"]["splits"] == {"test": "test[20%:]"}


def test_without_the_extra_one_line_says_how_to_install_it(suite, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        InputError, match=r"pip install 'mergegrid\[harness\]'"
    ) as error:
        opened(suite(task={"harness": {"task": "arc_easy"}}))
    assert "\n" not in str(error.value)
    assert "arc_easy" in str(error.value)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("hellaswg", "There is no task 'hellaswg' .* Did you mean 'hellaswag'"),
        ("mmlu", "mmlu is a group of the harness's tasks mmlu_stem, "),
        (
            "ai2_arc",
            "is a tag of the harness's tasks arc_challenge, arc_easy; name one",
        ),
        ("gsm8k", r"gsm8k asks for free text \(generate_until\)"),
        ("lambada_openai", "asks for one continuation"),
        ("squadv2", "is a program, and not a description"),
    ],
)
def test_a_task_that_cannot_be_used_is_named_with_the_reason(suite, task, said):
    with pytest.raises(InputError, match=said) as error:
        opened(suite(task={"harness": {"task": task}}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        ({"dataset_path": "pandas"}, {}, "has pickled data"),
        ({"process_results": "words.ask"}, {}, "scores answers by a program"),
        ({"metric_list": [{"metric": "f1"}]}, {}, "none of the metrics acc, acc_norm"),
        ({"test_split": None, "validation_split": None}, {}, "neither a test_split"),
        ({}, {"metric": "acc_bytes"}, "metric of words 'acc_bytes'"),
        ({}, {"metric": "choice"}, "metric of words 'choice'"),
        ({}, {"prompt": "{noun}"}, "prompt is out of place"),
        ({"training_split": None}, {"train": True}, "splits has no train"),
        ({"num_fewshot": 0}, {"harness": {"shots": 2}}, "takes no examples"),
        ({}, {"harness": {"include": "nowhere"}}, "no folder nowhere of task files"),
        ({}, {"harness": {"task": "word"}}, "There is no task 'word'"),
    ],
)
def test_what_is_wrong_with_a_task_is_said_in_one_line(
    write, suite, changes, more, said
):
    task = named(write(**changes))
    task["harness"] |= more.get("harness", {})
    task |= {key: value for key, value in more.items() if key != "harness"}
    with pytest.raises(InputError, match=said) as error:
        opened(suite(task=task))
    assert "\n" not in str(error.value)
    assert "task" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"doc_to_target": "{{gold + 1}}"},
            "Document .* has the answer 3, .* 3 choices",
        ),
        ({"doc_to_target": "{{[gold, 0]}}"}, "Document 0 .* has the answer "),
        ({"doc_to_text": "{{gold}}"}, "which question goes with an answer"),
        ({"doc_to_text": "{{noun.missing()}}"}, "it cannot be made"),
        ({"test_split": "exam"}, "exam"),
        ({"dataset_kwargs": {"data_files": "none.json"}}, "Cannot open the data set"),
        ({"num_fewshot": 13}, "no prompts from its split test"),
    ],
)
def test_what_its_data_do_not_have_is_said_in_one_line(write, texts, changes, said):
    with pytest.raises(InputError, match=said) as error:
        texts(named(write(**changes)))
    assert "\n" not in str(error.value)
    assert "words" in str(error.value) or "task.test" in str(error.value)


def test_data_that_cannot_be_fetched_are_named_with_the_way_out(
    write, texts, monkeypatch
):
    def unreachable(*_, **options):
        assert "trust_remote_code" not in options
        raise ConnectionError("no network")

    monkeypatch.setattr("mergegrid.suites.harness_data.load_dataset", unreachable)
    folder = write(
        dataset_path="nobody/nothing", dataset_kwargs={"trust_remote_code": True}
    )
    with pytest.raises(InputError, match=r"nobody/nothing .*no network.* as `saved`"):
        texts(named(folder))


def test_the_guides_task_file_and_experiment_are_understood(tmp_path, monkeypatch):
    guide = Path("docs/own.md").read_text(encoding="utf-8")
    _, of_task, of_experiment = guide.split("```yaml\n")[1:]
    monkeypatch.chdir(tmp_path)
    Path("reviews/tasks").mkdir(parents=True)
    write_tasks(Path("reviews/tasks"))
    assert Path("reviews/tasks/films.yaml").read_text() == of_task.split("```")[0]
    written = parse_mapping(of_experiment.split("```")[0], source="guide")
    suite = parse_experiment(written, source="guide").open_suite()
    assert [(task.name, task.held_in, task.metric) for task in suite.tasks()] == [
        ("films", True, "choice"),
        ("meals", True, "choice_per_character"),
        ("music", False, "choice"),
    ]
    assert suite.counts()["music.test"] == 12


def test_models_that_do_not_continue_texts_are_refused(write, suite):
    task = named(write())
    with pytest.raises(InputError, match=r"for the family causal.* not for seq2seq"):
        opened(suite(task=task) | {"family": "seq2seq"})
    with pytest.raises(InputError, match=r"leave architecture\.choices out"):
        opened(suite({"choices": "mean"}, task=task))
    adapted = {"family": "causal", "base": {}, "adapter": {"kind": "lora"}}
    section = suite(task=task) | {"family": "adapters", "architecture": adapted}
    assert opened(section).open_suite().family == "adapters"
    adapted["base"] = {"choices": "mean"}
    with pytest.raises(InputError, match=r"leave architecture\.choices out"):
        opened(section)
