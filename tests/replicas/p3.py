"""Replicas of nlp7, qa8 and p3_11 with their models, see `python -m tests.replicas`.

Every data set has its real columns and splits; the words are made up.
"""

import csv
from pathlib import Path

import datasets

from mergegrid.suites.hub_data import HubData
from mergegrid.suites.p3_data import sets
from tests.replicas.t5 import LATER, save_model
from tests.replicas.words import Speaker, strings

ROWS = 24
"""Of each split of each data set."""

FEW = {"few": 4, "last": 4, "most": 4}
"""The suites' options that fit them."""


def make(directory, seed=0, form=LATER):
    """Write the saved data sets and a model; give the suites' options."""
    directory = Path(directory)
    speaker = Speaker("en", seed)
    spoken = []
    folders = {}
    for task, facts in sets().items():
        rows = {
            split: [_ROWS[task](speaker) for _ in range(ROWS)] for split in facts.sizes
        }
        spoken += [
            text for each in rows.values() for row in each for text in strings(row)
        ]
        if isinstance(facts.source, HubData):
            folder = facts.source.folder(directory / "data")
            folders.setdefault(folder, {}).update(rows)
        else:
            _write_stories(directory / "stories", rows)
    for folder, splits in folders.items():
        made = {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
        datasets.DatasetDict(made).save_to_disk(folder)
    save_model(directory / "model", spoken, form=form, seed=seed)
    return {
        "pretrained_at": str(directory / "model"),
        "saved": str(directory / "data"),
        "story_cloze": str(directory / "stories"),
        **FEW,
    }


def _write_stories(directory, splits):
    directory.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        short = {"validation": "val", "test": "test"}[split]
        name = f"cloze_test_{short}__spring2016 - cloze_test_ALL_{short}.csv"
        with (directory / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def _pair(first, second, choices):
    def row(speaker):
        return {
            first: speaker.say(),
            second: speaker.say(3),
            "idx": 0,
            "label": speaker.label(choices),
        }

    return row


def _anli(speaker):
    return {
        "uid": speaker.word(),
        "premise": speaker.say(),
        "hypothesis": speaker.say(3),
        "label": speaker.label(3),
        "reason": "",
    }


def _winogrande(speaker):
    return {
        "sentence": f"{speaker.say(3)} _ {speaker.say(2)}",
        "option1": speaker.word(),
        "option2": speaker.word(),
        "answer": str(1 + speaker.label(2)),
    }


def _wic(speaker):
    return {
        "word": speaker.word(),
        "sentence1": speaker.say(),
        "sentence2": speaker.say(),
        "start1": 0,
        "start2": 0,
        "end1": 1,
        "end2": 1,
        "idx": 0,
        "label": speaker.label(2),
    }


def _wsc(speaker):
    return {
        "text": speaker.say(),
        "span1_index": 0,
        "span2_index": 1,
        "span1_text": speaker.word(),
        "span2_text": speaker.word(),
        "idx": 0,
        "label": speaker.label(2),
    }


def _copa(speaker):
    return {
        "premise": speaker.say(),
        "choice1": speaker.say(3),
        "choice2": speaker.say(3),
        "question": ("cause", "effect")[speaker.label(2)],
        "idx": 0,
        "label": speaker.label(2),
    }


def _hellaswag(speaker):
    return {
        "ind": 0,
        "activity_label": speaker.word(),
        "ctx_a": speaker.say(3),
        "ctx_b": "",
        "ctx": speaker.say(3),
        "endings": [speaker.say(3) for _ in range(4)],
        "source_id": speaker.word(),
        "split": "train",
        "split_type": "indomain",
        "label": str(speaker.label(4)),
    }


def _story(speaker):
    return {
        "InputStoryid": speaker.word(),
        **{f"InputSentence{number}": speaker.say(3) for number in (1, 2, 3, 4)},
        "RandomFifthSentenceQuiz1": speaker.say(3),
        "RandomFifthSentenceQuiz2": speaker.say(3),
        "AnswerRightEnding": str(1 + speaker.label(2)),
    }


def _lettered(choices, **columns):
    def row(speaker):
        letters = "ABCDEFGH"[:choices]
        return {
            "id": speaker.word(),
            "question": speaker.say(4),
            "choices": {
                "text": [speaker.word() for _ in letters],
                "label": list(letters),
            },
            "answerKey": letters[speaker.label(choices)],
            **{name: speaker.say(words) for name, words in columns.items()},
        }

    return row


def _wiki_qa(speaker):
    return {
        "question_id": speaker.word(),
        "question": speaker.say(4),
        "document_title": speaker.say(2),
        "answer": speaker.say(),
        "label": speaker.label(2),
    }


def _cosmos_qa(speaker):
    return {
        "id": speaker.word(),
        "context": speaker.say(10),
        "question": speaker.say(4),
        **{f"answer{number}": speaker.say(3) for number in range(4)},
        "label": speaker.label(4),
    }


def _social_iqa(speaker):
    return {
        "context": speaker.say(),
        "question": speaker.say(4),
        **{f"answer{letter}": speaker.say(2) for letter in "ABC"},
        "label": str(1 + speaker.label(3)),
    }


def _quail(speaker):
    return {
        "id": speaker.word(),
        "context_id": speaker.word(),
        "question_id": "0",
        "domain": "news",
        "metadata": {"author": "", "title": "", "url": ""},
        "context": speaker.say(10),
        "question": speaker.say(4),
        "question_type": "Causality",
        "answers": [speaker.say(2) for _ in range(4)],
        "correct_answer_id": speaker.label(4),
    }


def _ropes(speaker):
    situation = speaker.say(8)
    return {
        "id": speaker.word(),
        "background": speaker.say(8),
        "situation": situation,
        "question": speaker.say(4),
        "answers": {"text": [situation.split()[2]]},
    }


_ROWS = {
    "rte": _pair("premise", "hypothesis", 2),
    "cb": _pair("premise", "hypothesis", 3),
    "winogrande": _winogrande,
    "wic": _wic,
    "wsc": _wsc,
    "copa": _copa,
    "hellaswag": _hellaswag,
    "anli_r1": _anli,
    "anli_r2": _anli,
    "anli_r3": _anli,
    "paws": _pair("sentence1", "sentence2", 2),
    "qasc": _lettered(8, fact1=4, fact2=4, combinedfact=5, formatted_question=9),
    "quartz": _lettered(2, para=8, para_id=1),
    "wiki_qa": _wiki_qa,
    "cosmos_qa": _cosmos_qa,
    "social_iqa": _social_iqa,
    "quail": _quail,
    "ropes": _ropes,
    "story_cloze": _story,
}
