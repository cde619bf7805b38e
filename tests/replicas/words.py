"""Sentences of made-up words, in the script of a language, that differ by seed."""

import numpy as np

LETTERS = {
    "ar": "ابتثجحدرسع",
    "de": "abdeghilmnoßü",
    "en": "abcdeghilmnorst",
    "ko": "가나다라마바사아자차",
    "th": "กขคงจชดตนบมรลอ",
}
WORDS = 60


class Speaker:
    """Says sentences of one language."""

    def __init__(self, language, seed):
        generator = np.random.default_rng([seed, *map(ord, language)])
        letters = list(LETTERS[language])
        self._words = [
            "".join(generator.choice(letters, generator.integers(2, 6)))
            for _ in range(WORDS)
        ]
        self._generator = generator

    def word(self):
        return str(self._generator.choice(self._words))

    def say(self, words=6):
        return " ".join(self.word() for _ in range(words))

    def label(self, choices):
        return int(self._generator.integers(choices))


def strings(value):
    """Find every text in a row."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
