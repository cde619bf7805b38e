"""Prompts as data: strict templates, and rows that fill them in."""

import pytest
from pydantic import ValidationError

from mergegrid.documents import validated
from mergegrid.errors import InputError, UnknownNameError
from mergegrid.suites.prompts import FOLDER, Prompts, load_prompts

CHOOSING = {
    "fields": {
        "premise": "premise",
        "word": {"column": "question", "names": {"cause": "because", "effect": "so"}},
        "first": "choice1",
        "second": "choice2",
    },
    "label": "label",
    "templates": {
        "en": [
            {"prompt": "{premise} {word}", "choices": ["{first}", "{second}"]},
            {"prompt": "{premise}?", "choices": ["{first}", "{second}"]},
        ]
    },
}
ROW = {
    "premise": " It rained. ",
    "question": "effect",
    "choice1": "The {street} was wet.",
    "choice2": "The street was dry.",
    "label": 1,
}


def prompts(**sections):
    return validated(Prompts, CHOOSING | sections, source="test")


def filled(row, **sections):
    made = prompts(**sections)
    return made.text(row, made.wordings("en")[0])


def test_a_template_is_filled_in_with_values_of_the_row():
    text = filled(ROW)
    assert text.prompt == "It rained.  so"
    assert text.choices == ("The {street} was wet.", "The street was dry.")
    assert text.answers == ("The street was dry.",)


def test_braces_in_the_data_are_no_fields():
    assert filled(ROW | {"premise": "{word} {0} {x"}).prompt == "{word} {0} {x so"


def test_labels_can_have_names_and_choices_can_be_a_list():
    row = {"question": "Q", "choices": {"text": ["a", "b"]}, "answerKey": "B"}
    text = filled(
        row,
        fields={"question": "question", "options": "choices.text"},
        label={"column": "answerKey", "names": {"A": 0, "B": 1}},
        templates={"en": [{"prompt": "{question}", "choices": "{options}"}]},
    )
    assert text.choices == ("a", "b")
    assert text.answers == ("b",)


def test_free_answers_are_those_of_the_row():
    free = {"label": None, "answers": "answers.text", "fields": {"q": "question"}}
    row = {"question": "Why?", "answers": {"text": ["this ", "that"]}}
    text = filled(row, **free, templates={"en": [{"prompt": "{q}"}]})
    assert text.answers == ("this", "that")
    assert text.choices == ()


@pytest.mark.parametrize(
    "prompt",
    ["{premise.x}", "{premise[0]}", "{premise!r}", "{premise:>9}", "{}", "{0}"],
)
def test_a_field_is_a_plain_name(prompt):
    templates = {"en": [{"prompt": prompt, "choices": ["{first}", "{second}"]}]}
    with pytest.raises(InputError, match="plain name in braces"):
        prompts(templates=templates)


def test_unknown_fields_are_refused_with_the_one_that_was_meant():
    templates = {"en": [{"prompt": "{premis}", "choices": ["{first}", "{second}"]}]}
    with pytest.raises(InputError, match=r"premis.*premise"):
        prompts(templates=templates)


def test_fields_that_nothing_uses_are_refused():
    with pytest.raises(InputError, match="the field more is used by no template"):
        prompts(fields=CHOOSING["fields"] | {"more": "more"})


def test_choices_need_a_label_and_a_label_needs_choices():
    with pytest.raises(InputError, match="choices without a label"):
        prompts(label=None, answers="choice1")
    with pytest.raises(InputError, match="either label or answers"):
        prompts(answers="choice1")


def test_a_label_that_hides_the_answer_is_refused():
    with pytest.raises(InputError, match="label -1 is none of the 2 choices"):
        filled(ROW | {"label": -1})


def test_a_missing_value_is_named_with_what_is_there():
    row = {name: value for name, value in ROW.items() if name != "choice2"}
    with pytest.raises(InputError, match=r"no choice2.*premise, question, choice1"):
        filled(row)


def test_a_value_without_a_name_is_refused():
    with pytest.raises(UnknownNameError, match="value of question 'reason'"):
        filled(ROW | {"question": "reason"})


def test_a_language_without_templates_is_refused():
    with pytest.raises(UnknownNameError, match="'de'"):
        prompts().wordings("de")


def test_columns_are_those_that_are_read():
    assert prompts().columns == {"premise", "question", "choice1", "choice2", "label"}


def test_what_is_read_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        prompts().label = "other"


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.yaml")))
def test_choices_of_every_wording_are_in_one_order(name):
    # Yes and no are not swapped between wordings, nor between languages.
    order = {"yes": 0, "true": 0, "always": 0, "maybe": 1, "neither": 1, "sometimes": 1}
    read = load_prompts(name)
    for templates in read.templates.values():
        counts = {len(t.choices) for t in templates if not isinstance(t.choices, str)}
        assert len(counts) <= 1
    for template in read.templates.get("en", ()):
        fixed = [c.lower() for c in template.choices if c.lower() in order]
        first = read.templates["en"][0].choices
        for choice in fixed:
            place = template.choices.index(choice.title())
            same = [c for c in first if order.get(c.lower()) == order[choice]]
            assert [first.index(c) for c in same] == [place]


def test_an_unknown_data_set_is_refused():
    with pytest.raises(UnknownNameError, match="copa"):
        load_prompts("cop")
