"""What `lexicon` asks: five kinds of questions about sentences, in any language."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType
from typing import TypeAlias

from mergegrid.suites.lexicon_language import (
    ABOVE_ALL,
    ADJECTIVES,
    AGENTS,
    AMBIGUOUS,
    KINDS,
    OBJECTS,
    SENSES,
    VERBS,
    Fact,
    Language,
)
from mergegrid.suites.texts import Text

Ask: TypeAlias = Callable[[Language, int, Random], Text]
"""Makes a question about a passage of so many sentences."""

YES, NO, MAYBE = "yes", "no", "maybe"

SHARED_WORDS = (
    *(YES, NO, MAYBE, "."),
    *("question", "passage", "answerable", "entails", "premise"),
    *("sense", "summary"),
)
"""Words of prompts and answers that are the same in every language."""


def answer(language: Language, sentences: int, random: Random) -> Text:
    """Ask what an agent of the passage does something to; copy the object's name.

    Args:
        language: the language.
        sentences: of the passage.
        random: decides everything else.

    Returns:
        The question.
    """
    facts = _facts(random, sentences)
    asked = random.choice(facts)
    span = language.noun(asked.thing, asked.adjective)
    prompt = f"question {_question(language, asked)} {_passage(language, facts)}"
    return Text(prompt, (span,))


def entail(language: Language, sentences: int, random: Random) -> Text:
    """Ask whether the passage entails a sentence, contradicts it, or neither.

    What is entailed says what the passage says, or less, without the adjective. What
    contradicts the passage negates that; what does neither is about another object.

    Args:
        language: see `answer`.
        sentences: see `answer`.
        random: see `answer`.

    Returns:
        The question.
    """
    facts = _facts(random, sentences)
    asked = random.choice(facts)
    right = random.choice((YES, NO, MAYBE))
    said = asked
    if right == MAYBE:
        every = itertools.chain.from_iterable(OBJECTS.values())
        other = random.choice([thing for thing in every if thing != asked.thing])
        said = replace(asked, thing=other)
    if random.random() < 0.5:
        said = replace(said, adjective=None)
    sentence = language.sentence(said, negated=right == NO)
    prompt = f"entails {sentence} {_passage(language, facts, 'premise')}"
    return _choice(prompt, right, (YES, NO, MAYBE))


def sense(language: Language, sentences: int, random: Random) -> Text:
    """Ask whether a word of two senses has the same one in the last two sentences.

    Args:
        language: see `answer`.
        sentences: of the passage; at least two are made.
        random: see `answer`.

    Returns:
        The question.
    """
    word = random.choice(AMBIGUOUS)
    senses = random.choice((0, 1)), random.choice((0, 1))
    facts = _facts(random, max(2, sentences))
    facts[-2:] = [
        replace(fact, thing=word, adjective=random.choice(SENSES[number]))
        for fact, number in zip(facts[-2:], senses, strict=True)
    ]
    right = YES if senses[0] == senses[1] else NO
    return _choice(f"sense {_passage(language, facts)}", right, (YES, NO))


def summarize(language: Language, sentences: int, random: Random) -> Text:
    """Ask for the sentence of the passage that is said to be what matters.

    Args:
        language: see `answer`.
        sentences: see `answer`.
        random: see `answer`.

    Returns:
        The question.
    """
    facts = _facts(random, sentences)
    chosen = random.randrange(len(facts))
    said = [language.sentence(fact) for fact in facts]
    marked = list(said)
    marked[chosen] = f"{language.words[ABOVE_ALL]} {said[chosen]}"
    return Text(f"summary passage {' . '.join(marked)} .", (said[chosen],))


def is_answerable(language: Language, sentences: int, random: Random) -> Text:
    """Ask whether the passage answers a question.

    Args:
        language: see `answer`.
        sentences: see `answer`.
        random: see `answer`.

    Returns:
        The question.
    """
    facts = _facts(random, sentences)
    right, asked = random.choice((YES, NO)), random.choice(facts)
    if right == NO:
        *facts, asked = _facts(random, sentences + 1)
    prompt = f"answerable {_question(language, asked)} {_passage(language, facts)}"
    return _choice(prompt, right, (YES, NO))


def _facts(random: Random, count: int) -> list[Fact]:
    """Draw what sentences say; they have no agent, verb or kind of object in common."""
    agents, verbs, kinds = (
        random.sample(words, k=count) for words in (AGENTS, VERBS, KINDS)
    )
    return [
        Fact(
            agent,
            verb,
            random.choice(OBJECTS[kind]),
            random.choice((None, random.choice(ADJECTIVES))),
        )
        for agent, verb, kind in zip(agents, verbs, kinds, strict=True)
    ]


def _question(language: Language, asked: Fact) -> str:
    """Ask for a sentence's object by the word for its kind."""
    (kind,) = (kind for kind in KINDS if asked.thing in OBJECTS[kind])
    return language.sentence(Fact(asked.agent, asked.verb, kind))


def _passage(language: Language, facts: list[Fact], called: str = "passage") -> str:
    return f"{called} {' . '.join(language.sentence(fact) for fact in facts)} ."


def _choice(prompt: str, right: str, choices: tuple[str, ...]) -> Text:
    return Text(prompt, (right,), choices)


QUESTIONS: Mapping[str, tuple[Ask, str]] = MappingProxyType(
    {
        "answer": (answer, "squad"),
        "entailment": (entail, "choice"),
        "sense": (sense, "choice"),
        "summary": (summarize, "rouge"),
        "answerability": (is_answerable, "choice"),
    }
)
"""How each kind of question is made, and its metric."""
