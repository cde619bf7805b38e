"""Free answers against acceptable ones."""

import pytest

from mergegrid.text_overlap import exact_match, rouge, squad


def test_an_exact_answer_may_differ_in_white_space_alone():
    assert exact_match("the  cat", ("a dog", "the cat ")) == 1
    assert exact_match("The cat", ("the cat",)) == 0


def test_squad_ignores_case_punctuation_and_articles():
    assert squad("The cat!", ("a cat",)) == 1


def test_squad_is_the_mean_of_exact_match_and_f1():
    # Two of two words given are right, two of three wanted are given: F1 is 0.8.
    assert squad("cat sat", ("cat sat down",)) == pytest.approx((0 + 0.8) / 2)
    assert squad("dog", ("cat",)) == 0


def test_squad_takes_the_best_fitting_of_several_answers():
    assert squad("cat", ("a dog", "the cat")) == 1


def test_rouge_is_the_mean_of_words_pairs_and_longest_common_sequence():
    # 2 of 3 words, 1 of 2 pairs, and a sequence of 2 of 3.
    expected = (2 / 3 + 1 / 2 + 2 / 3) / 3
    assert rouge("a b x", ("a b c",)) == pytest.approx(expected)
    assert rouge("A b C", ("a b c",)) == pytest.approx(1)
    assert rouge("", ("a b c",)) == 0


def test_rouge_takes_the_best_of_several_summaries():
    assert rouge("a b c", ("x y z", "a b c")) == pytest.approx(1)


def test_rouge_counts_letters_where_words_are_not_separated():
    given, wanted = "กขค", "กขง"
    assert rouge(given, (wanted,)) == pytest.approx(rouge("ก ข ค", ("ก ข ง",)))
    assert rouge(given, (wanted,)) > 0
