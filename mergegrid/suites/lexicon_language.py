"""Synthetic languages: words, word order and a small grammar, all drawn from a seed.

A sentence says who does what to which thing: an agent, a verb and an object that may
have an adjective. Languages have no word in common; what their words mean, and so what
is true, they have in common.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from mergegrid.canonical import digest

CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"

ORDERS = ("AVO", "AOV", "VAO", "OVA", "VOA", "OAV")
"""Orders of agent, verb and object."""

AGENTS = tuple(f"agent {number}" for number in range(5))
VERBS = tuple(f"verb {number}" for number in range(5))
KINDS = tuple(f"kind {number}" for number in range(5))
"""Kinds of objects: questions have another word for each, as they have for places and
times."""

OBJECTS = {kind: tuple(f"{kind} {number}" for number in range(2)) for kind in KINDS}

SENSES = tuple(
    tuple(f"adjective {sense}.{number}" for number in range(2)) for sense in range(2)
)
"""Adjectives by the sense in which they take a word of two senses."""

ADJECTIVES = tuple(itertools.chain.from_iterable(SENSES))
AMBIGUOUS = tuple(f"ambiguous {number}" for number in range(2))
"""Objects of two senses, which the adjective tells apart."""

NOT, ABOVE_ALL = "not", "above all"
CONCEPTS = (
    *AGENTS,
    *VERBS,
    *KINDS,
    *itertools.chain.from_iterable(OBJECTS.values()),
    *ADJECTIVES,
    *AMBIGUOUS,
    *(NOT, ABOVE_ALL),
)
"""Everything that a language has a word for."""


def draws(*key: str | int) -> Random:
    """Give a source of random numbers of its own.

    Args:
        *key: what it is for; the numbers depend on nothing else.

    Returns:
        The source.
    """
    return Random(int(digest(list(key)), base=16))


@dataclass(frozen=True)
class Fact:
    """What a sentence says."""

    agent: str
    verb: str
    thing: str
    """The object: one of `OBJECTS` or `AMBIGUOUS`; in a question one of `KINDS`."""

    adjective: str | None = None


@dataclass(frozen=True)
class Language:
    """Words and their order."""

    name: str
    """What it is called in names of tasks."""

    words: dict[str, str]
    """The word for each of `CONCEPTS`."""

    order: str
    """One of `ORDERS`."""

    adjective_first: bool
    """Whether adjectives stand before their noun."""

    negation_first: bool
    """Whether a negation stands before the verb."""

    def noun(self, thing: str, adjective: str | None = None) -> str:
        """Name an object.

        Args:
            thing: see `Fact`.
            adjective: what is said about it, if anything.

        Returns:
            One or two words.
        """
        said = [adjective, thing] if self.adjective_first else [thing, adjective]
        return " ".join(self.words[concept] for concept in said if concept)

    def sentence(self, fact: Fact, *, negated: bool = False) -> str:
        """Say something.

        Args:
            fact: what.
            negated: whether to say that it is not so.

        Returns:
            A sentence without a full stop.
        """
        verb = [NOT, fact.verb] if self.negation_first else [fact.verb, NOT]
        parts = {
            "A": self.words[fact.agent],
            "V": " ".join(self.words[c] for c in (verb if negated else [fact.verb])),
            "O": self.noun(fact.thing, fact.adjective),
        }
        return " ".join(parts[part] for part in self.order)


def make_languages(names: Sequence[str], *, seed: int) -> dict[str, Language]:
    """Invent languages.

    Args:
        names: what they are called; at most as many as there are `ORDERS`.
        seed: decides words and orders.

    Returns:
        The languages by name. They differ in the order of agent, verb and object, and
        have no word in common.
    """
    random = draws(seed, "languages")
    orders = random.sample(ORDERS, k=len(names))
    taken: set[str] = set()
    made: dict[str, Language] = {}
    for name, order in zip(names, orders, strict=True):
        sounds = random.sample(CONSONANTS, k=7), random.sample(VOWELS, k=4)
        words: dict[str, str] = {}
        for concept in CONCEPTS:
            while (word := _word(random, *sounds)) in taken:
                pass
            taken.add(word)
            words[concept] = word
        first = random.random() < 0.5, random.random() < 0.5
        made[name] = Language(name, words, order, *first)
    return made


def _word(random: Random, consonants: Sequence[str], vowels: Sequence[str]) -> str:
    syllables = random.choice((2, 2, 3))
    return "".join(
        random.choice(consonants) + random.choice(vowels) for _ in range(syllables)
    )
