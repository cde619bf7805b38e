import copy

import pytest
import yaml

from mergegrid.errors import InputError
from mergegrid.experiment import load_experiment, parse_experiment

DOCUMENT = {
    "name": "tiny",
    "suite": {"name": "glyphs", "categories": 3, "classes_per_category": 2},
    "training": {
        "pretrain": {"steps": 4},
        "expert": {"steps": 2},
        "multitask": {"steps": 2},
    },
    "grid": [{"methods": ["average", {"name": "ties", "options": {"density": 0.2}}]}],
}


def changed(**places):
    document = copy.deepcopy(DOCUMENT)
    for place, value in places.items():
        *path, last = place.split("__")
        target = document
        for part in path:
            target = target[int(part) if part.isdigit() else part]
        target[int(last) if last.isdigit() else last] = value
    return document


def written(tmp_path, text):
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    return path


def test_a_file_and_its_document_are_one_experiment(tmp_path):
    path = written(tmp_path, yaml.safe_dump(DOCUMENT))
    assert load_experiment(path) == parse_experiment(DOCUMENT, source="here")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (changed(metods=[]), "no key 'metods'.*'name'|no key 'metods'"),
        (changed(grid__0__method=[]), "grid.0: There is no key 'method'.*'methods'"),
        (
            changed(grid__0__methods__0="tie"),
            "grid.0.methods.0.*no merge method 'tie'.*Did you mean 'ties'",
        ),
        (
            changed(grid__0__methods__1__options={"desnity": 0.2}),
            "no option of ties 'desnity'.*Did you mean 'density'",
        ),
        (changed(suite__name="glyph"), "no suite 'glyph'.*Did you mean 'glyphs'"),
        (
            changed(suite__categorys=3),
            "no option of glyphs 'categorys'.*Did you mean 'categories'",
        ),
        (changed(suite__categories=0), "categories"),
        (changed(training__expert__steps=-1), "training.expert.steps.*got -1"),
        (changed(name="Not A Name"), "name: .*'Not A Name'"),
        (changed(grid__0__subsets="some"), "no kind of subsets 'some'"),
        (
            changed(grid__0__subsets={"nested": {"sizes": [0]}}),
            "a subset of 0 experts cannot be merged",
        ),
        ({"name": "tiny"}, "is missing"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_way_out(document, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_experiment(document, source="file.yaml")
    assert str(caught.value).startswith("file.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "holds a list instead of a mapping"),
        ("", "holds nothing instead of a mapping"),
        ("name: [", "is not YAML"),
        ("name: a\nname: b\n", "a key is written twice"),
    ],
)
def test_text_that_is_no_experiment_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        load_experiment(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"Cannot read nowhere\.yaml: No such file"):
        load_experiment("nowhere.yaml")
