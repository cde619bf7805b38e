"""The data sets of `nlp7`, `qa8` and `p3_11`, and how papers split them.

Sizes in rows are those of the hub. Data sets that were published as programs are read
from the hub's own export, since programs are not run.
"""

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.suites.hub_data import HubData
from mergegrid.suites.suite import Fetch, Split
from mergegrid.suites.text_data import Part, Rows, Selection, Source, Wordings

Protocol: TypeAlias = Literal["ties", "mats"]
"""How a paper splits data sets whose test has no answers.

`ties`: 32 rows of the official validation split, in the order shuffled with seed 42,
are for validation and its rest is the test, unless there is a test with answers
(Yadav et al., arXiv:2306.01708, and their code). `mats`: the last rows of the official
training split are for validation and the official validation split is the test (Tam et
al., arXiv:2312.04339, and their code), which TALL-masks took over with its checkpoints.
"""

FEW = 32
"""Examples for validation under `ties`."""

SEED = 42
"""Decides which they are."""

EXPORT = "refs/convert/parquet"


@dataclass(frozen=True)
class StoryCloze:
    """The Story Cloze Test of 2016, which is given out on request only."""

    place: str | None = None
    """The folder with its two files."""

    def __str__(self) -> str:
        """Name it as messages do."""
        return "the Story Cloze Test"

    def fetch(self) -> Fetch:
        """Say what has to be fetched, by hand.

        Returns:
            A line of the plan.
        """
        return Fetch("Story Cloze Test, Spring 2016 (by hand)", 2_000_000, "on request")

    def open(
        self, split: str, columns: Collection[str], saved: str | None = None
    ) -> Rows:
        """Read one of its files.

        Args:
            split: validation or test.
            columns: those that will be read.
            saved: not used, it is no data set of the hub.

        Returns:
            Its rows.

        Raises:
            InputError: if it is not there.
            UnknownNameError: if it has other columns.
        """
        del saved
        if self.place is None:
            raise InputError(
                "The Story Cloze Test is given out on request only: ask for the Spring "
                "2016 set, at https://cs.rochester.edu/nlp/rocstories, and name the "
                "folder with its two CSV files as `story_cloze`, or leave the task out "
                "with `without: [story_cloze]`."
            )
        short = {"validation": "val", "test": "test"}[split]
        pattern = f"*cloze_test_ALL_{short}.csv"
        found = sorted(Path(self.place).expanduser().glob(pattern))
        if not found:
            raise InputError(
                f"There is no Story Cloze Test in {self.place}: no file there is "
                f"called {pattern}."
            )
        with found[0].open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for column in sorted(columns):
            if not rows or column not in rows[0]:
                known = list(rows[0]) if rows else ()
                raise UnknownNameError(f"column of {found[0].name}", column, known)
        return rows


@dataclass(frozen=True)
class Set:
    """A data set with its splits."""

    source: Source
    """Where it is."""

    prompts: str
    """The name of its prompts."""

    sizes: Mapping[str, int] = field(hash=False)
    """Rows of the official splits that are used."""

    train: str = "train"
    """The official training split."""

    validation: str = "validation"
    """The official validation split."""

    test: str | None = None
    """An official test split whose answers are known."""

    last: int = 1000
    """Rows of the training split that `mats` validates on."""

    metric: str = "choice"
    """How answers are scored."""

    category: str = "question answering"
    """What it asks."""

    def part(
        self,
        split: Split,
        protocol: Protocol,
        wordings: Wordings,
        *,
        few: int = FEW,
        last: int | None = None,
        most: int | None = None,
    ) -> Part:
        """Describe a split as a paper makes it.

        Args:
            split: which.
            protocol: how it is made.
            wordings: which templates are used.
            few: rows for validation under `ties`.
            last: rows for validation under `mats`; None for as many as the paper took.
            most: at most so many rows.

        Returns:
            The part.
        """
        held_out = self.last if last is None else last
        if protocol == "ties":
            selections = {
                "train": Selection(self.train),
                "validation": Selection(self.validation, None, few, SEED),
                "test": Selection(self.test)
                if self.test
                else Selection(self.validation, few, None, SEED),
            }
        else:
            selections = {
                "train": Selection(self.train, None, -held_out),
                "validation": Selection(self.train, -held_out),
                "test": Selection(self.validation),
            }
        selection = selections[split]
        return Part(
            self.source,
            selection,
            self.sizes[selection.split],
            self.prompts,
            wordings=wordings,
            most=most,
        )


def _super_glue(config: str, size: int, licence: str) -> HubData:
    return HubData("aps/super_glue", config, bytes=size, licence=licence)


def _exported(name: str, config: str | None, size: int, licence: str) -> HubData:
    return HubData(
        name, config, revision=EXPORT, is_export=True, bytes=size, licence=licence
    )


_ANLI = HubData("facebook/anli", bytes=31_000_000, licence="CC BY-NC 4.0")


def _anli(number: int, train: int, rest: int) -> Set:
    names = [f"{split}_r{number}" for split in ("train", "dev", "test")]
    sizes = dict(zip(names, (train, rest, rest), strict=True))
    return Set(_ANLI, "anli", sizes, train=names[0], validation=names[1], test=names[2])


def sets(story_cloze: str | None = None) -> Mapping[str, Set]:
    """Give every data set by the name of its task.

    Args:
        story_cloze: the folder with the files of the Story Cloze Test.

    Returns:
        The data sets.
    """
    own = Set(
        StoryCloze(story_cloze),
        "story_cloze",
        {"validation": 1871, "test": 1871},
        train="validation",  # as GPT-3 did: there is no training split
        validation="test",
        category="completion",
    )
    return MappingProxyType({**_SETS, "story_cloze": own})


_SETS = {
    "rte": Set(
        _super_glue("rte", 1_300_000, "not known"),
        "rte",
        {"train": 2490, "validation": 277},
        category="entailment",
    ),
    "cb": Set(
        _super_glue("cb", 140_000, "not known"),
        "cb",
        {"train": 250, "validation": 56},
        last=100,
        category="entailment",
    ),
    "winogrande": Set(
        _exported("allenai/winogrande", "winogrande_xl", 2_300_000, "CC BY"),
        "winogrande",
        {"train": 40_398, "validation": 1267},
        category="coreference",
    ),
    "wic": Set(
        _super_glue("wic", 600_000, "CC BY-NC 4.0"),
        "wic",
        {"train": 5428, "validation": 638},
        category="word sense",
    ),
    "wsc": Set(
        _super_glue("wsc.fixed", 70_000, "CC BY 4.0"),
        "wsc",
        {"train": 554, "validation": 104},
        last=100,
        category="coreference",
    ),
    "copa": Set(
        _super_glue("copa", 90_000, "BSD-2-Clause"),
        "copa",
        {"train": 400, "validation": 100},
        last=100,
        category="completion",
    ),
    "hellaswag": Set(
        _exported("Rowan/hellaswag", None, 36_800_000, "MIT"),
        "hellaswag",
        {"train": 39_905, "validation": 10_042},
        category="completion",
    ),
    "anli_r1": _anli(1, 16_946, 1000),
    "anli_r2": _anli(2, 45_460, 1000),
    "anli_r3": _anli(3, 100_459, 1200),
    "paws": Set(
        HubData(
            "google-research-datasets/paws",
            "labeled_final",
            bytes=11_000_000,
            licence="free for any purpose, with acknowledgement",
        ),
        "paws",
        {"train": 49_401, "validation": 8000, "test": 8000},
        test="test",
        category="paraphrase",
    ),
    "qasc": Set(
        HubData("allenai/qasc", bytes=2_300_000, licence="CC BY 4.0"),
        "qasc",
        {"train": 8134, "validation": 926},
        last=500,
    ),
    "quartz": Set(
        HubData(
            "allenai/quartz",
            revision="28c1dbb56caf81799296cb17892fa73402e23464",
            bytes=570_000,
            licence="CC BY 4.0",
        ),
        "quartz",
        {"train": 2696, "validation": 384, "test": 784},
        test="test",
        last=200,
    ),
    "wiki_qa": Set(
        HubData(
            "microsoft/wiki_qa",
            bytes=3_500_000,
            licence="Microsoft Research Data License",
        ),
        "wiki_qa",
        {"train": 20_360, "validation": 2733, "test": 6165},
        test="test",
    ),
    "cosmos_qa": Set(
        _exported("allenai/cosmos_qa", None, 12_000_000, "CC BY 4.0"),
        "cosmos_qa",
        {"train": 25_262, "validation": 2985},
    ),
    "social_iqa": Set(
        HubData(
            "allenai/social_i_qa",
            revision="89b943c9f61c6f3296998bb60773476f791c7128",
            is_export=True,
            bytes=3_700_000,
            licence="not known",
        ),
        "social_iqa",
        {"train": 33_410, "validation": 1954},
    ),
    "quail": Set(
        HubData("textmachinelab/quail", bytes=2_300_000, licence="CC BY-NC-SA 4.0"),
        "quail",
        {"train": 10_246, "validation": 2164, "challenge": 556},
        test="challenge",
    ),
    "ropes": Set(
        HubData("allenai/ropes", bytes=3_500_000, licence="CC BY 4.0"),
        "ropes",
        {"train": 10_924, "validation": 1688},
        metric="squad",
    ),
}
