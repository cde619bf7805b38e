"""The suite of invented languages."""

import itertools

import pytest

from mergegrid.errors import UnknownNameError
from mergegrid.models import get_family
from mergegrid.suites.lexicon import FILE, LANGUAGES, Lexicon
from mergegrid.suites.lexicon_language import (
    ABOVE_ALL,
    AGENTS,
    AMBIGUOUS,
    NOT,
    ORDERS,
    SENSES,
    Fact,
    Language,
    draws,
    make_languages,
)
from mergegrid.suites.lexicon_questions import QUESTIONS

TINY = {
    "train": 12,
    "validation": 4,
    "test": 6,
    "generalization": 3,
    "pretraining": 5,
}
KINDS = tuple(QUESTIONS)


@pytest.fixture(scope="module")
def tiny():
    return Lexicon(**TINY)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    directory = tmp_path_factory.mktemp("lexicon")
    tiny.prepare(directory)
    return directory


@pytest.fixture(scope="module")
def data(tiny, folder):
    return tiny.open(folder)


@pytest.fixture(scope="module", params=LANGUAGES)
def asked(request, tiny):
    """Give a language, and a way to ask questions in it."""
    language = tiny.languages[request.param]

    def ask(kind, count=40, sentences=4):
        make, _ = QUESTIONS[kind]
        random = draws(0, kind, language.name)
        return [make(language, sentences, random) for _ in range(count)]

    return language, ask


def sentences(text):
    """Take the passage of a prompt apart, and what is said before it."""
    before, _, passage = text.prompt.replace("premise", "passage").partition("passage")
    return before.split()[1:], [each.split() for each in passage.split(".")[:-1]]


def test_every_kind_is_held_in_once_and_generalizes_to_every_other_language():
    tasks = Lexicon().tasks()
    assert [task.held_in for task in tasks] == [True] * 5 + [False] * 20
    assert {(t.category, t.domain) for t in tasks} == {
        *itertools.product(KINDS, LANGUAGES)
    }
    held_in = tasks[:5]
    assert len({task.category for task in held_in}) == 5
    assert len({task.domain for task in held_in}) == 5


def test_languages_differ_in_order_and_have_no_word_in_common():
    languages = make_languages(LANGUAGES, seed=0).values()
    assert len({language.order for language in languages}) == len(LANGUAGES)
    words = [word for language in languages for word in language.words.values()]
    assert len(set(words)) == len(words)


def test_a_sentence_is_said_in_the_order_of_its_language():
    words = {"agent 0": "dog", "verb 0": "sees", "kind 0 0": "bone", NOT: "never"}
    words |= {"adjective 0.0": "old"}
    fact = Fact("agent 0", "verb 0", "kind 0 0", "adjective 0.0")
    english = Language("english", words, "AVO", True, True)
    assert english.sentence(fact) == "dog sees old bone"
    assert english.sentence(fact, negated=True) == "dog never sees old bone"
    other = Language("other", words, "OVA", False, False)
    assert other.sentence(fact, negated=True) == "bone old sees never dog"


def test_an_answer_is_the_object_of_the_sentence_about_the_same_agent(asked):
    language, ask = asked
    agents = {language.words[agent] for agent in AGENTS}
    for text in ask("answer"):
        question, passage = sentences(text)
        (agent,) = agents & set(question)
        (about,) = [said for said in passage if agent in said]
        rest = [word for word in about if word not in question]
        assert text.answers == (" ".join(rest),)
        assert text.answers[0] in " ".join(about)


def test_entailment_follows_from_the_words(asked):
    language, ask = asked
    negation = language.words[NOT]
    texts = ask("entailment")
    for text in texts:
        said, passage = sentences(text)
        entailed = any(set(said) <= set(each) for each in passage)
        right = "no" if negation in said else "yes" if entailed else "maybe"
        assert text.answers == (right,)
    assert {text.answers[0] for text in texts} == {"yes", "no", "maybe"}


def test_a_word_has_the_sense_that_its_adjective_says(asked):
    language, ask = asked
    ambiguous = {language.words[word] for word in AMBIGUOUS}
    by_word = {language.words[a]: s for s, group in enumerate(SENSES) for a in group}
    texts = ask("sense")
    for text in texts:
        _, passage = sentences(text)
        senses = [
            by_word[word]
            for said in passage
            if ambiguous & set(said)
            for word in said
            if word in by_word
        ]
        assert len(senses) == 2
        assert text.answers == ("yes" if senses[0] == senses[1] else "no",)
    assert {text.answers[0] for text in texts} == {"yes", "no"}


def test_a_summary_is_the_sentence_that_is_marked(asked):
    language, ask = asked
    for text in ask("summary"):
        _, passage = sentences(text)
        (marked,) = [said for said in passage if language.words[ABOVE_ALL] in said]
        assert text.answers == (" ".join(marked[1:]),)


def test_a_question_is_answerable_if_the_passage_is_about_its_agent(asked):
    language, ask = asked
    agents = {language.words[agent] for agent in AGENTS}
    texts = ask("answerability")
    for text in texts:
        question, passage = sentences(text)
        (agent,) = agents & set(question)
        known = any(agent in said for said in passage)
        assert text.answers == ("yes" if known else "no",)
    assert {text.answers[0] for text in texts} == {"yes", "no"}


@pytest.mark.parametrize("kind", KINDS)
def test_passages_have_the_sentences_asked_for(asked, kind):
    _, ask = asked
    assert {len(sentences(text)[1]) for text in ask(kind, 5, sentences=3)} == {3}


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_answer_is_among_the_choices(asked, kind):
    _, ask = asked
    chosen = QUESTIONS[kind][1] == "choice"
    assert all((text.answers[0] in text.choices) == chosen for text in ask(kind, 10))


def test_the_same_seed_writes_the_same_bytes_and_another_other_questions(
    tiny, folder, tmp_path
):
    tiny.prepare(tmp_path)
    assert (tmp_path / FILE).read_bytes() == (folder / FILE).read_bytes()
    Lexicon(**TINY, seed=1).prepare(tmp_path)
    first, second = ((d / FILE).read_text().splitlines() for d in (tmp_path, folder))
    assert not set(first) & set(second)


def test_more_of_one_split_changes_no_other(folder, tmp_path):
    Lexicon(**TINY | {"train": 13}).prepare(tmp_path)
    written = [(d / FILE).read_text().splitlines() for d in (folder, tmp_path)]
    before, after = map(set, written)
    assert before < after
    assert len(after - before) == 5
    assert all(".train" in line for line in after - before)


def test_every_part_has_the_questions_that_were_announced(tiny, data):
    for part, count in tiny.counts().items():
        if "pretraining" not in part:
            assert len(data.examples(*part.split("."))) == count
    assert [len(part) for part in data.pretraining()] == [25 * 5, 25 * 20]


def test_no_question_is_in_two_splits(tmp_path):
    suite = Lexicon(**TINY | {"train": 300, "test": 200, "pretraining": 100})
    suite.prepare(tmp_path)
    data = suite.open(tmp_path)
    train, validation = (
        [text.prompt for text in each[:]] for each in data.pretraining()
    )
    for task in suite.tasks()[:5]:
        splits = [
            [text.prompt for text in data.examples(task.name, split)[:]]
            for split in ("train", "validation", "test")
        ]
        for texts in splits:
            assert len(set(texts)) == len(texts)
        for one, other in itertools.combinations([*splits, train, validation], 2):
            if (one, other) not in [(splits[0], train), (splits[1], validation)]:
                assert not set(one) & set(other)


def test_passages_are_shorter_in_pretraining(tiny, data):
    lengths = {len(sentences(text)[1]) for text in data.pretraining()[0][:]}
    assert max(lengths) <= tiny.pretraining_sentences < tiny.sentences
    texts = data.examples("answer/amu", "train")[:]
    assert {len(sentences(text)[1]) for text in texts} == {tiny.sentences}


def test_the_model_has_a_token_for_every_word_and_room_for_every_question(tmp_path):
    suite = Lexicon(**TINY | {"train": 100})
    suite.prepare(tmp_path)
    data = suite.open(tmp_path)
    architecture = suite.architecture()
    family = get_family(suite.family)
    model = family.create(architecture, seed=0)
    for task in suite.tasks():
        texts = data.examples(task.name, "train" if task.held_in else "test")
        batch = family.encode(model, texts)[:]
        for text, question, answer in zip(
            texts[:], batch["input_mask"], batch["label"], strict=True
        ):
            assert question.sum() == len(text.prompt.split()) + 1
            assert (answer >= 0).sum() == len(text.answers[0].split()) + 1


def test_an_unknown_task_and_a_split_that_it_lacks_are_named(data):
    with pytest.raises(UnknownNameError, match=r"mean 'answer/amu\.test'"):
        data.examples("anwser/amu", "test")
    with pytest.raises(UnknownNameError, match=r"answer/beki\.train"):
        data.examples("answer/beki", "train")


def test_progress_counts_up_to_the_number_of_parts(tiny, tmp_path):
    seen = []
    tiny.prepare(tmp_path, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(number, len(seen)) for number in range(1, len(seen) + 1)]


def test_there_are_as_many_orders_as_languages_need():
    assert len(set(ORDERS)) == len(ORDERS) >= len(LANGUAGES)
    assert {"".join(sorted(order)) for order in ORDERS} == {"AOV"}
