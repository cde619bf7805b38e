"""Free answers against acceptable ones: exact match, F1 of SQuAD, and ROUGE."""

KINDS = ("rouge1", "rouge2", "rougeL")

UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x9FFF))
"""Thai and Lao, Burmese, Khmer; kana and Chinese characters."""


def exact_match(given: str, wanted: tuple[str, ...]) -> float:
    """Tell whether an answer is one of the acceptable ones.

    Args:
        given: the answer.
        wanted: the acceptable answers.

    Returns:
        1 if it is one but for white space around and between words, else 0.
    """
    words = given.split()
    return float(any(words == answer.split() for answer in wanted))


def squad(given: str, wanted: tuple[str, ...]) -> float:
    """Score an answer as SQuAD does: the mean of exact match and F1.

    Args:
        given: the answer.
        wanted: the acceptable answers, of which the best fitting one counts, for exact
            match and F1 each by itself.

    Returns:
        (exact match + F1) / 2, in [0, 1]; letter case, punctuation and articles are
        ignored.

    Source:
        Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text",
        EMNLP 2016, arXiv:1606.05250, Section 6.1; their mean as in the Realistic
        Evaluation paper.
    """
    from torchmetrics.functional.text import squad as measure

    found = measure(
        {"prediction_text": given, "id": "0"},
        {"answers": {"answer_start": [0] * len(wanted), "text": [*wanted]}, "id": "0"},
    )
    return (float(found["exact_match"]) + float(found["f1"])) / 200


def rouge(given: str, wanted: tuple[str, ...]) -> float:
    """Score a summary by the mean of ROUGE-1, ROUGE-2 and ROUGE-L (F1).

    Words are what is between white space, in lower case, so that it works for every
    script that separates words; where a script does not, its characters are words.

    Args:
        given: the summary.
        wanted: acceptable summaries; the one with the best mean counts.

    Returns:
        The mean, in [0, 1].

    Source:
        Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.
    """
    from torchmetrics.functional.text import rouge_score

    def mean(answer: str) -> float:
        found = rouge_score(
            given, answer, tokenizer=_words, normalizer=str.lower, rouge_keys=KINDS
        )
        return sum(float(found[f"{kind}_fmeasure"]) for kind in KINDS) / len(KINDS)

    return max(map(mean, wanted))


def _words(text: str) -> list[str]:
    """Split text into words of any script."""
    words: list[str] = []
    for word in text.split():
        words += word if any(map(_is_unspaced, word)) else [word]
    return words


def _is_unspaced(letter: str) -> bool:
    """Tell whether a letter's script has no spaces between words."""
    return any(first <= ord(letter) <= last for first, last in UNSPACED)
