"""`vision8`, `vision14` and `vision20`, on their replica."""

import datasets
import pytest
import torch

from mergegrid.errors import InputError
from mergegrid.suites import SUITES
from mergegrid.suites.vision import TASKS, Vision8, Vision14, Vision20
from tests.replicas import vision as replica


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return replica.make(tmp_path_factory.mktemp("vision"))


@pytest.fixture(scope="module")
def suite(options):
    return Vision20(**options)


@pytest.fixture(scope="module")
def data(suite, tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    suite.prepare(directory)
    return suite.open(directory)


def classes_before(task):
    names = list(TASKS)
    return sum(len(TASKS[name].names) for name in names[: names.index(task)])


def test_suites_are_the_first_tasks_of_the_papers_twenty():
    eight, fourteen, twenty = (
        [task.name for task in SUITES[f"vision{number}"]().tasks()]
        for number in (8, 14, 20)
    )
    assert eight == [
        "cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn"
    ]  # fmt: skip
    assert fourteen[:8] == eight
    assert twenty[:14] == fourteen
    assert len(twenty) == 20


def test_classes_and_templates_are_as_many_as_in_the_papers():
    heads = {
        name: (len(head["classes"]), len(head["templates"]))
        for name, head in zip(TASKS, Vision20().heads(), strict=True)
    }
    assert heads == {
        "cars": (196, 8),
        "dtd": (47, 8),
        "eurosat": (10, 3),
        "gtsrb": (43, 3),
        "mnist": (10, 1),
        "resisc45": (45, 18),
        "sun397": (397, 2),
        "svhn": (10, 1),
        "cifar100": (100, 18),
        "stl10": (10, 2),
        "flowers102": (102, 1),
        "oxfordiiitpet": (37, 1),
        "pcam": (2, 1),
        "fer2013": (7, 6),
        "emnist": (10, 1),
        "cifar10": (10, 18),
        "food101": (101, 1),
        "fashionmnist": (10, 2),
        "renderedsst2": (2, 1),
        "kmnist": (10, 1),
    }


def test_no_task_has_the_same_class_twice_and_templates_have_one_place():
    for facts, head in zip(TASKS.values(), Vision20().heads(), strict=True):
        names = [str(name) for name in facts.names]
        assert len(set(names)) == len(names)
        assert all(template.count("{}") == 1 for template in head["templates"])


def test_validation_is_a_tenth_of_training_and_at_most_5000_images():
    counts = Vision20().counts()
    assert (counts["cars.train"], counts["cars.validation"]) == (8144 - 814, 814)
    assert counts["svhn.validation"] == 5000
    assert counts["svhn.train"] + 5000 == 73257


def test_validation_is_what_torch_splits_off_with_that_seed(suite):
    facts = TASKS["mnist"]
    parts = {split: chosen for split, chosen, _ in suite._parts(facts)}
    train = facts.source.open("train", ["image", "label"], suite.saved)
    kept, held = torch.utils.data.random_split(
        range(len(train)),
        [replica.TRAIN - 1, 1],
        generator=torch.Generator().manual_seed(0),
    )
    assert parts["train"] == sorted(kept)
    assert parts["validation"] == list(held)


@pytest.mark.parametrize("task", ["cars", "mnist", "cifar100", "fer2013", "food101"])
def test_examples_choose_among_their_own_tasks_classes(data, task):
    first = classes_before(task)
    batch = data.examples(task, "test")[:]
    images = torch.arange(replica.TEST) % min(len(TASKS[task].names), 3)
    assert (batch["label"] - first).tolist() == images.tolist()
    assert batch["first"].tolist() == [first] * replica.TEST
    last = first + len(TASKS[task].names) - 1
    assert batch["last"].tolist() == [last] * replica.TEST
    assert batch["image"].shape == (replica.TEST, 3, 32, 32)


def saved_as(tmp_path, names, labels):
    facts = TASKS["eurosat"]
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    made = datasets.Dataset.from_dict(
        {"image": [None] * len(labels), "label": labels}, datasets.Features(kinds)
    )
    splits = datasets.DatasetDict({"train": made, "test": made})
    splits.save_to_disk(str(facts.source.folder(tmp_path)))
    return made


def test_labels_go_by_names_where_those_are_ours_and_by_places_elsewhere(tmp_path):
    from mergegrid.suites.vision import _labels

    facts = TASKS["eurosat"]
    turned = [str(name).title() for name in reversed(facts.names)]
    by_name = _labels("eurosat", facts, saved_as(tmp_path / "a", turned, [0, 9]))
    assert [by_name[label] for label in range(10)] == list(range(10))[::-1]
    other = [f"class {number}" for number in range(12)]
    by_place = _labels("eurosat", facts, saved_as(tmp_path / "b", other, [0, 9]))
    assert by_place == {label: label for label in range(10)}
    with pytest.raises(InputError, match="has the label 11, but eurosat has 10"):
        _labels("eurosat", facts, saved_as(tmp_path / "c", other, [0, 11]))


def test_models_are_openais_with_normalized_heads():
    architecture = Vision14(model="ViT-L-14").architecture()
    assert architecture["quick_gelu"] is True
    assert architecture["scaled"] is True
    assert architecture["vision_cfg"]["layers"] == 24
    assert Vision8().pretrained().place.startswith("timm/vit_base_patch32_clip_224")


def test_a_directory_says_itself_what_its_model_is(suite, options):
    architecture = suite.architecture()
    assert architecture["vision_cfg"]["image_size"] == 32
    assert architecture["mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert suite.options() == Vision20().options()
    assert suite.fetches() == ()
    assert len(Vision20().fetches()) == 20
    assert options["saved"] == suite.saved


def test_a_directory_without_a_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"pretrained_at: in .* neither an open_clip"):
        Vision8(pretrained_at=str(tmp_path)).architecture()


def test_experts_may_be_published(tmp_path):
    suite = Vision8(experts={"mnist": str(tmp_path)})
    assert suite.expert("mnist").place == str(tmp_path)
    assert suite.expert("cars") is None
    with pytest.raises(ValueError, match="no held-in task of vision8 'mnits'"):
        Vision8(experts={"mnits": str(tmp_path)})
