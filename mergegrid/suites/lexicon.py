"""`lexicon`: cross-lingual generalization over invented languages, nothing downloaded.

A miniature of the cross-lingual experiment of the Realistic Evaluation paper (Tam et
al., arXiv:2409.18314, section 4): a task is a kind of question in a language. Each kind
is held in, with an expert of its own, in one language; the kind in every other language
measures whether merging experts combines what one knows about the kind of question with
what others know about the language.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from pydantic import Field

from mergegrid.suites.examples import Examples
from mergegrid.suites.lexicon_language import Language, draws, make_languages
from mergegrid.suites.lexicon_questions import QUESTIONS, SHARED_WORDS
from mergegrid.suites.parts import find_part
from mergegrid.suites.suite import Progress, Split, Suite, Task
from mergegrid.suites.texts import Text, Texts

LANGUAGES = ("amu", "beki", "dola", "niro", "suvi")

FILE = "lexicon.jsonl"

PRETRAINING = ("pretraining", "pretraining_validation")
"""Parts of the data that no task owns: to pretrain on, and to stop early by."""

LONGEST_SENTENCE = 5
"""Words: agent, verb, its negation, object, adjective."""

PART_OF_PROMPTS = {"test": (0,), "validation": (1,), PRETRAINING[1]: (1,)}
"""Which eighths of all prompts a split draws from; training has the rest, so that no
question is in two splits."""


class Lexicon(Suite):
    """Five kinds of questions in five invented languages."""

    seed: int = Field(default=0, ge=0, description="seed of everything drawn")
    sentences: int = Field(
        default=4, ge=2, le=4, description="sentences of a task's passages"
    )
    train: int = Field(
        default=3000, ge=1, description="questions to train an expert on"
    )
    validation: int = Field(
        default=100, ge=1, description="questions to validate an expert on"
    )
    test: int = Field(
        default=200, ge=1, description="questions to test a held-in task on"
    )
    generalization: int = Field(
        default=50, ge=1, description="questions to test any other task on"
    )
    pretraining: int = Field(
        default=2000,
        ge=1,
        description="questions of each kind in each language to pretrain on",
    )
    pretraining_sentences: int = Field(
        default=2,
        ge=2,
        le=4,
        description="most sentences of the passages in pretraining",
    )
    width: int = Field(default=64, ge=16, multiple_of=16, description="of the model")
    layers: int = Field(
        default=2, ge=1, description="layers of the encoder, and of the decoder"
    )

    @property
    def name(self) -> str:
        """Its name in experiments and rows."""
        return "lexicon"

    @property
    def version(self) -> int:
        """Raised whenever the data change; part of every key."""
        return 1

    @property
    def family(self) -> str:
        """The model family that its models belong to."""
        return "seq2seq"

    def tasks(self) -> tuple[Task, ...]:
        """List the tasks.

        Returns:
            Each kind of question in its own language, held in; then each kind in every
            other language.
        """
        pairs = [(kind, home) for kind, home in zip(QUESTIONS, LANGUAGES, strict=True)]
        pairs += [
            (kind, language)
            for kind, home in zip(QUESTIONS, LANGUAGES, strict=True)
            for language in LANGUAGES
            if language != home
        ]
        return tuple(
            Task(
                name=f"{kind}/{language}",
                version=self.version,
                category=kind,
                domain=language,
                held_in=number < len(QUESTIONS),
                metric=QUESTIONS[kind][1],
            )
            for number, (kind, language) in enumerate(pairs)
        )

    def architecture(self) -> dict[str, Any]:
        """Describe the model: a small T5 with a token for each word.

        Returns:
            T5's configuration, and all words of all languages.
        """
        words = {
            word
            for language in self.languages.values()
            for word in language.words.values()
        }
        passages = max(self.sentences, self.pretraining_sentences)
        return {
            "config": {
                "model_type": "t5",
                "d_model": self.width,
                "d_kv": 16,
                "num_heads": self.width // 16,
                "d_ff": 2 * self.width,
                "num_layers": self.layers,
                "num_decoder_layers": self.layers,
                "dropout_rate": 0.0,
            },
            # Instruction, question, a full stop after each sentence, the end.
            "prompt_tokens": (LONGEST_SENTENCE + 1) * (passages + 1) + 3,
            "answer_tokens": LONGEST_SENTENCE + 1,
            "vocabulary": [*SHARED_WORDS, *sorted(words)],
        }

    def counts(self) -> dict[str, int]:
        """Count the questions of every part of the data.

        Returns:
            Number of questions by `<task>.<split>`, and of those to pretrain on.
        """
        return {part.name: part.questions for part in self._parts()}

    def prepare(self, directory: Path, *, progress: Progress | None = None) -> None:
        """Write all questions into one file, a JSON object on each line.

        Args:
            directory: an empty directory.
            progress: told about the parts written.
        """
        parts = list(self._parts())
        with (directory / FILE).open("w", encoding="utf-8") as file:
            for done, part in enumerate(parts, start=1):
                for text in self._texts(part):
                    row = {"part": part.name} | asdict(text)
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                if progress is not None:
                    progress(done, len(parts))

    def open(self, directory: Path) -> "LexiconData":
        """Open data that `prepare` wrote.

        Args:
            directory: where they are.

        Returns:
            The data.
        """
        return LexiconData(self, directory / FILE)

    @cached_property
    def languages(self) -> dict[str, Language]:
        """The languages by name."""
        return make_languages(LANGUAGES, seed=self.seed)

    def _parts(self) -> Iterator["_Part"]:
        for task in self.tasks():
            kind, language = task.category, task.domain
            if task.held_in:
                yield _Part(kind, language, "train", self.train)
                yield _Part(kind, language, "validation", self.validation)
            questions = self.test if task.held_in else self.generalization
            yield _Part(kind, language, "test", questions)
        for kind in QUESTIONS:
            for language in LANGUAGES:
                yield _Part(kind, language, PRETRAINING[0], self.pretraining)
                yield _Part(kind, language, PRETRAINING[1], 20)

    def _texts(self, part: "_Part") -> Iterator[Text]:
        random = draws(self.seed, part.kind, part.language, part.split)
        ask, _ = QUESTIONS[part.kind]
        wanted = PART_OF_PROMPTS.get(part.split, (2, 3, 4, 5, 6, 7))
        written: set[str] = set()
        while len(written) < part.questions:
            sentences = self.sentences
            if part.split in PRETRAINING:
                sentences = random.randint(1, self.pretraining_sentences)
            text = ask(self.languages[part.language], sentences, random)
            if zlib.crc32(text.prompt.encode()) % 8 in wanted:
                if text.prompt not in written:
                    yield text
                written.add(text.prompt)


class LexiconData:
    """Questions that `Lexicon.prepare` wrote.

    Args:
        suite: the suite that wrote them.
        path: the file.
    """

    def __init__(self, suite: Lexicon, path: Path) -> None:
        self._suite = suite
        self._path = path

    def examples(self, task: str, split: Split) -> Examples:
        """Give one split of one task.

        Args:
            task: the task's name.
            split: held-in tasks have all splits, generalization tasks only a test.

        Returns:
            The questions.
        """
        part = find_part("lexicon", self._suite.counts(), task, split)
        return _examples(self._read[part])

    def pretraining(self) -> tuple[Examples, Examples]:
        """Give what the pretrained model is trained on.

        Returns:
            Questions to train on, and questions to stop early by: all kinds in all
            languages.
        """
        train, validation = (
            [
                text
                for name, texts in self._read.items()
                if name.rpartition(".")[2] == part
                for text in texts
            ]
            for part in PRETRAINING
        )
        return _examples(train), _examples(validation)

    @cached_property
    def _read(self) -> dict[str, list[Text]]:
        found: dict[str, list[Text]] = {}
        with self._path.open(encoding="utf-8") as file:
            for row in map(json.loads, file):
                found.setdefault(row["part"], []).append(Text.from_row(row))
        return found


def _examples(texts: list[Text]) -> Examples:
    return cast("Examples", Texts(texts))  # until the family encodes them


@dataclass(frozen=True)
class _Part:
    """Questions that are drawn together: one split of one pair."""

    kind: str
    language: str
    split: str
    questions: int

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.language}.{self.split}"
