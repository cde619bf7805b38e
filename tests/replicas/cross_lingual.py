"""A replica of cross_lingual and its mT5, see `python -m tests.replicas`.

Every data set has its real columns and splits; the words are made up.
"""

from pathlib import Path

import datasets

from mergegrid.suites.cross_lingual import LANGUAGES, CrossLingual
from tests.replicas.t5 import save_model
from tests.replicas.words import Speaker, strings

ROWS = 24
"""Of each split of each data set, and of each language in one of many."""

FEW = {"validation": 4, "summaries": 6, "questions": 4, "most": 4}
"""The suite's options that fit them."""


def make(directory, seed=0):
    """Write the saved data sets and the model; give the suite's options."""
    directory = Path(directory)
    spoken = []
    sources = {}
    for part in CrossLingual().parts().values():
        sources.setdefault(part.source, {}).setdefault(part.selection.split, part)
    for source, splits in sources.items():
        made = {}
        for split, part in splits.items():
            rows = _rows(part, seed)
            spoken += [text for row in rows for text in strings(row)]
            made[split] = datasets.Dataset.from_list(rows)
        datasets.DatasetDict(made).save_to_disk(source.folder(directory / "data"))
    save_model(directory / "model", spoken, kind="mt5", seed=seed)
    return {
        "pretrained_at": str(directory / "model"),
        "saved": str(directory / "data"),
        **FEW,
    }


def _rows(part, seed):
    if part.prompts == "tydiqa":
        speakers = {code: Speaker(code, seed) for code in LANGUAGES if code != "de"}
        return [
            _ROWS["tydiqa"](speaker, code)
            for _ in range(ROWS)
            for code, speaker in speakers.items()
        ]
    speaker = Speaker(part.language, seed)
    rows = [_ROWS[part.prompts](speaker, part.language) for _ in range(ROWS)]
    if part.prompts == "wiki_lingua":
        rows[3]["article"] = {"section_name": [], "document": [], "summary": []}
    return rows


def _question(speaker, _language):
    passage = speaker.say(10)
    answer = passage.split()[3]
    return {
        "id": speaker.word(),
        "title": speaker.word(),
        "context": passage,
        "question": speaker.say(4),
        "answers": {"text": [answer], "answer_start": [passage.index(answer)]},
    }


def _entailment(speaker, _language):
    return {
        "premise": speaker.say(),
        "hypothesis": speaker.say(3),
        "label": speaker.label(3),
    }


def _article(speaker, _language):
    sections = [speaker.say(12) for _ in range(2)]
    return {
        "url": speaker.word(),
        "article": {
            "section_name": [speaker.word() for _ in sections],
            "document": sections,
            "summary": [section[:20] for section in sections],
        },
    }


def _sense(speaker, language):
    word = speaker.word()
    return {
        "id": speaker.word(),
        "context_1": f"{speaker.say(3)} {word}",
        "context_2": f"{word} {speaker.say(3)}",
        "target_word": word,
        "pos": "N",
        "target_word_location_1": {"char_start": 0, "char_end": 1},
        "target_word_location_2": {"char_start": 0, "char_end": 1},
        "language": language.upper(),
        "label": speaker.label(2),
    }


def _english_sense(speaker, _language):
    word = speaker.word()
    return {
        "word": word,
        "sentence1": f"{speaker.say(3)} {word}",
        "sentence2": f"{word} {speaker.say(3)}",
        "start1": 0,
        "start2": 0,
        "end1": 1,
        "end2": 1,
        "idx": 0,
        "label": speaker.label(2),
    }


def _answerability(speaker, language):
    return {
        "passage_answer_candidates": {"plaintext_start_byte": [0]},
        "question_text": speaker.say(4),
        "document_title": speaker.say(2),
        "language": LANGUAGES[language],
        "annotations": {
            "passage_answer_candidate_index": [0],
            "minimal_answers_start_byte": [0],
            "minimal_answers_end_byte": [1],
            "yes_no_answer": [("YES", "NO", "NONE")[speaker.label(3)]],
        },
        "document_plaintext": speaker.say(12),
        "document_url": speaker.word(),
    }


_ROWS = {
    "squad": _question,
    "xnli": _entailment,
    "wiki_lingua": _article,
    "xlwic": _sense,
    "wic": _english_sense,
    "tydiqa": _answerability,
}
