"""Three checkpoints and their data: `python -m tests.replicas.own DIRECTORY`.

Each expert learned which words of its own field are praise: of films, meals or music.
The model that they started from knows the question and a few words of each field.
"""

import json
import random
import sys
from pathlib import Path

import datasets
import torch

from mergegrid.evaluation import evaluate
from mergegrid.models import get_family
from mergegrid.suites.texts import Text, Texts
from mergegrid.training import TrainingSettings, train

FIELDS = {
    "films": ("gripping moving witty tense lavish", "dull wooden trite slow hollow"),
    "meals": ("tasty fresh crisp tender rich", "bland stale soggy tough greasy"),
    "music": ("lively tuneful bright soulful warm", "shrill flat muddy tinny harsh"),
}
FRAMES = ("the {noun} was {word}", "what a {word} {noun}", "we found the {noun} {word}")
NOUNS = {"films": "plot cast", "meals": "soup bread", "music": "song band"}
CHOICES = ("bad", "good")
TASK = """\
task: {field}_praise
dataset_path: json
dataset_kwargs:
  data_files:
    train: {folder}/{field}.train.jsonl
    validation: {folder}/{field}.validation.jsonl
    test: {folder}/{field}.test.jsonl
training_split: train
validation_split: validation
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{review}}}} : good or bad ?"
doc_to_choice: [bad, good]
doc_to_target: label
metric_list:
  - metric: acc
  - metric: acc_norm
"""
"""The question about each field, as a task file of lm-evaluation-harness."""

KNOWN = 2
"""How many words of praise and of blame of each field the first model has seen."""


def rows(field: str, *, known: int | None = None) -> list[dict[str, object]]:
    """Make every sentence of a field, some of them with two words that agree."""
    made: list[dict[str, object]] = []
    for label, words in enumerate(reversed(FIELDS[field])):
        for word in words.split()[:known]:
            for noun in NOUNS[field].split():
                for frame in FRAMES:
                    sentence = frame.format(noun=noun, word=word)
                    made.append({"review": sentence, "label": label})
    random.Random(field).shuffle(made)
    return made


def divided(field: str) -> dict[str, list[dict[str, object]]]:
    """Divide the sentences of a field into splits."""
    made = rows(field)
    return {"train": made[:36], "validation": made[36:48], "test": made[48:]}


def texts(made: list[dict[str, object]]) -> Texts:
    """Ask about sentences as the guide's experiment does."""
    return Texts(
        [
            Text(f"{row['review']} : good or bad ?", (CHOICES[row["label"]],), CHOICES)
            for row in made
        ]
    )


def architecture() -> dict[str, object]:
    """Describe a GPT-2 of two layers that knows the words above and no others."""
    sentences = [str(row["review"]) for field in FIELDS for row in rows(field)]
    words = sorted({word for sentence in sentences for word in sentence.split()})
    return {
        "config": {
            "model_type": "gpt2",
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 24,
            "initializer_range": 0.2,
        },
        "vocabulary": [*words, ":", "or", "?", *CHOICES],
        "prompt_tokens": 16,
        "answer_tokens": 2,
    }


def make(directory: Path, seed: int = 0) -> None:
    """Train the models and write them, and save the data sets.

    Args:
        directory: where to: `base`, `films`, `meals`, `music` and `data`.
        seed: decides everything.
    """
    family = get_family("causal")
    model = family.create(architecture(), seed=seed)
    known = [row for field in FIELDS for row in rows(field, known=KNOWN)]
    _train(model, known, steps=80, rate=3e-3, seed=seed)
    _save(model, directory / "base")
    for field in FIELDS:
        data = divided(field)
        datasets.DatasetDict(
            {name: datasets.Dataset.from_list(part) for name, part in data.items()}
        ).save_to_disk(directory / "data" / field / "default")
        expert = family.load(directory / "base")
        _train(expert, data["train"], steps=40, rate=1e-3, seed=seed)
        _save(expert, directory / field)


def write_tasks(directory: Path) -> None:
    """Write the task files, and their data beside them.

    Args:
        directory: where to; an existing directory.
    """
    for field in FIELDS:
        task = TASK.format(field=field, folder=directory)
        (directory / f"{field}.yaml").write_text(task)
        for split, made in divided(field).items():
            lines = "".join(json.dumps(row) + "\n" for row in made)
            (directory / f"{field}.{split}.jsonl").write_text(lines)


def _train(
    model: torch.nn.Module,
    made: list[dict[str, object]],
    *,
    steps: int,
    rate: float,
    seed: int,
) -> None:
    examples = get_family("causal").encode(model, texts(made))
    settings = TrainingSettings(
        steps=steps,
        batch_size=24,
        learning_rate=rate,
        warmup_steps=10,
        evaluate_every=steps,
    )
    train(
        model,
        examples,
        lambda model: evaluate(model, examples, metric="choice"),
        settings,
        seed=seed,
    )


def _save(model: torch.nn.Module, directory: Path) -> None:
    directory.mkdir(parents=True)
    get_family("causal").save(model, directory)


if __name__ == "__main__":
    datasets.disable_progress_bars()
    make(Path(sys.argv[1]))
    tasks = Path(sys.argv[1]) / "tasks"
    tasks.mkdir()
    write_tasks(tasks)
