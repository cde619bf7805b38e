"""`cross_lingual`: five tasks, each learnt in one language, asked in the others.

The cross-lingual natural language processing of the Realistic Evaluation paper (Tam et
al., arXiv:2409.18314, Sections 3.2 and C.2): mT5-XL, adapted to language modelling, is
fine-tuned on one task in one language at a time. The other pairs of task and language
measure whether merging combines what one expert knows about the task with what another
knows about the language.

The 15 generalization pairs are those that the authors' code evaluates; Table 1 of the
paper ticks more, and their text counts 17. The revisions that they pinned are programs,
which `datasets` runs no more; the same rows are read from Parquet files.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import Field

from mergegrid.suites.hub_data import HubData
from mergegrid.suites.suite import Split, Task
from mergegrid.suites.text_data import Filter, Part, Selection
from mergegrid.suites.text_data_models import MODELS, Model
from mergegrid.suites.text_data_suite import TextSuite

HELD_IN = MappingProxyType(
    {
        "question_answering": "en",
        "entailment": "ar",
        "summarization": "th",
        "word_sense": "de",
        "answerability": "ko",
    }
)
"""Each task's own language."""

OTHERS = MappingProxyType(
    {
        "question_answering": ("ar", "de", "th"),
        "entailment": ("th", "en", "de"),
        "summarization": ("ar", "en", "ko", "de"),
        "word_sense": ("en", "ko"),
        "answerability": ("en", "th", "ar"),
    }
)
"""The languages in which each task measures generalization."""

METRICS = MappingProxyType({"question_answering": "squad", "summarization": "rouge"})
"""How tasks are scored whose answers are free text: the mean of exact match and F1; the
mean of ROUGE-1, ROUGE-2 and ROUGE-L."""

LANGUAGES = MappingProxyType(
    {
        "ar": "arabic",
        "de": "german",
        "en": "english",
        "ko": "korean",
        "th": "thai",
    }
)
"""What WikiLingua and TyDi QA call them."""

_ARTICLES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "ar": (9995, 56_000_000),
        "de": (20_103, 63_000_000),
        "en": (57_945, 187_000_000),
        "ko": (4111, 17_000_000),
        "th": (5093, 30_000_000),
    }
)
"""WikiLingua: articles, and bytes, about."""

_QUESTIONS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "ar": (23_092, 1380),
        "en": (9211, 1031),
        "ko": (10_981, 1698),
        "th": (11_365, 2245),
    }
)
"""TyDi QA: questions to train on and to validate on."""

_ENTAILMENTS: Mapping[str, int] = MappingProxyType(
    {"ar": 59_200_000, "de": 55_000_000, "en": 51_000_000, "th": 66_000_000}
)
"""XNLI: bytes, about."""


class CrossLingual(TextSuite):
    """Five tasks in five languages, one expert for each on the diagonal."""

    validation: int = Field(
        default=1000,
        ge=1,
        description="rows at the end of a training split to validate on, where a data "
        "set has no more than two splits with answers",
    )
    summaries: int = Field(
        default=2500,
        ge=1,
        description="articles at the end of WikiLingua's one split to test on",
    )
    questions: int = Field(
        default=200, ge=1, description="questions at the end of XQuAD to test on"
    )

    @property
    def name(self) -> str:
        """Its name in experiments and rows."""
        return "cross_lingual"

    @property
    def prompt_tokens(self) -> int:
        """Most tokens of a question."""
        return 512

    def start(self) -> Model:
        """Name the published model that experts start from.

        Returns:
            mT5-XL, adapted to language modelling (Vu et al., arXiv:2205.12647).
        """
        return MODELS["mt5-xl-lm-adapt"]

    def tasks(self) -> tuple[Task, ...]:
        """List the tasks.

        Returns:
            Each task in its own language, held in; then in the others.
        """
        pairs = [*HELD_IN.items()]
        pairs += [(task, code) for task, codes in OTHERS.items() for code in codes]
        return tuple(
            Task(
                name=f"{category}/{language}",
                version=self.version,
                category=category,
                domain=language,
                held_in=HELD_IN[category] == language,
                metric=METRICS.get(category, "choice"),
            )
            for category, language in pairs
        )

    def parts(self) -> dict[str, Part]:
        """Describe every split of every task.

        Returns:
            The parts by `<task>.<split>`.
        """
        make = {
            "question_answering": self._question_answering,
            "entailment": self._entailment,
            "summarization": self._summarization,
            "word_sense": self._word_sense,
            "answerability": self._answerability,
        }
        splits: tuple[Split, ...] = ("train", "validation", "test")
        return {
            f"{task.name}.{split}": make[task.category](task.domain, split)
            for task in self.tasks()
            for split in (splits if task.held_in else splits[-1:])
        }

    def _part(
        self,
        source: HubData,
        selection: Selection,
        size: int,
        prompts: str,
        language: str,
        split: Split,
        keep: Filter | None = None,
    ) -> Part:
        # All templates for what is trained on, one after the other elsewhere, as the
        # authors' configurations say.
        wordings = "all" if split == "train" else "in_turn"
        return Part(
            source, selection, size, prompts, language, wordings, keep, self.most
        )

    def _last_of_train(self, split: Split) -> Selection:
        selections = {
            "train": Selection("train", None, -self.validation),
            "validation": Selection("train", -self.validation),
            "test": Selection("validation"),
        }
        return selections[split]

    def _question_answering(self, language: str, split: Split) -> Part:
        licence = "CC BY-SA 4.0"
        if language == HELD_IN["question_answering"]:
            source = HubData("rajpurkar/squad", bytes=16_300_000, licence=licence)
            selection = self._last_of_train(split)
            size = {"train": 87_599, "validation": 10_570}[selection.split]
        else:
            name = f"xquad.{language}"
            source = HubData("google/xquad", name, bytes=800_000, licence=licence)
            selection = Selection("validation", -self.questions)
            size = 1190
        return self._part(source, selection, size, "squad", language, split)

    def _entailment(self, language: str, split: Split) -> Part:
        source = HubData(
            "facebook/xnli",
            language,
            revision="b8dd5d7af51114dbda02c0e3f6133f332186418e",
            bytes=_ENTAILMENTS[language],
            licence="CC BY-NC 4.0",
        )
        size = {"train": 392_702, "validation": 2490, "test": 5010}[split]
        return self._part(source, Selection(split), size, "xnli", language, split)

    def _summarization(self, language: str, split: Split) -> Part:
        size, length = _ARTICLES[language]
        source = HubData(
            "esdurmus/wiki_lingua",
            LANGUAGES[language],
            bytes=length,
            licence="CC BY 3.0",
        )
        held_out = self.validation + self.summaries
        selection = {
            "train": Selection("train", None, -held_out),
            "validation": Selection("train", -held_out, -self.summaries),
            "test": Selection("train", -self.summaries),
        }[split]
        written = Filter("article.document")  # some articles have no section
        return self._part(
            source, selection, size, "wiki_lingua", language, split, written
        )

    def _word_sense(self, language: str, split: Split) -> Part:
        if language == "en":
            source = HubData(
                "aps/super_glue", "wic", bytes=600_000, licence="CC BY-NC 4.0"
            )
            return self._part(
                source, Selection("validation"), 638, "wic", language, split
            )
        from_german = language == HELD_IN["word_sense"]
        source = HubData(
            "pasinit/xlwic",
            f"xlwic_{'de' if from_german else 'en'}_{language}",
            revision="82809dc0e633afea69ab61e91652483ab1151cf7",
            is_export=True,
            bytes=8_000_000 if from_german else 480_000,
            licence="CC BY-NC 4.0",
        )
        german = {"train": 48_042, "validation": 8888, "test": 24_268}
        size = german[split] if from_german else 1014
        return self._part(source, Selection(split), size, "xlwic", language, split)

    def _answerability(self, language: str, split: Split) -> Part:
        source = HubData(
            "google-research-datasets/tydiqa",
            "primary_task",
            bytes=3_000_000_000,
            licence="Apache-2.0",
        )
        selection = self._last_of_train(split)
        train, validation = _QUESTIONS[language]
        size = train if selection.split == "train" else validation
        own = Filter("language", LANGUAGES[language])
        return self._part(source, selection, size, "tydiqa", language, split, own)
