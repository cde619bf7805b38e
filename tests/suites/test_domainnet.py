"""`domainnet`, on its replica."""

import random
from collections import Counter

import datasets
import pytest

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.suites import SUITES
from mergegrid.suites.domainnet import CATEGORIES, DATA, DOMAINS, DomainNet, home
from tests.replicas import domainnet as replica


@pytest.fixture(scope="module")
def replicated(tmp_path_factory):
    options = replica.make(tmp_path_factory.mktemp("domainnet"))
    return DomainNet(**options)


@pytest.fixture(scope="module")
def data(replicated, tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    replicated.prepare(directory)
    return replicated.open(directory)


def rows(suite, split):
    dataset = DATA.open(split, ["label", "domain"], suite.saved)
    names = dataset.features["label"].names
    domains = dataset.features["domain"].names
    return [
        (names[label], domains[domain])
        for label, domain in zip(dataset["label"], dataset["domain"], strict=True)
    ]


def names_of(suite):
    return suite.heads()[0]["classes"]


def test_each_category_is_held_in_in_one_domain_and_all_other_pairs_generalize():
    tasks = SUITES["domainnet"]().tasks()
    held_in = [task for task in tasks if task.held_in]
    assert (len(held_in), len(tasks)) == (24, 144)
    assert Counter(task.domain for task in held_in) == dict.fromkeys(DOMAINS, 4)
    assert {task.category for task in held_in} == CATEGORIES.keys()
    assert (held_in[0].name, held_in[-1].name) == ("furniture/clipart", "others/sketch")
    assert home("bird") == "real"


def test_the_head_has_347_rows_of_which_two_pairs_are_alike():
    names = names_of(SUITES["domainnet"]())
    repeated = [name for name, count in Counter(names).items() if count > 1]
    assert (len(names), sorted(repeated)) == (347, ["bandage", "nail"])


def test_prompts_keep_underscores_unless_they_are_not_wanted():
    assert "alarm_clock" in names_of(DomainNet())
    assert "alarm clock" in names_of(DomainNet(underscores=False))


def test_embeddings_are_neither_normalized_nor_scaled():
    architecture = DomainNet().architecture()
    assert architecture["scaled"] is False
    assert architecture["heads"][0]["templates"] == ["A photo of a {}"]
    assert architecture["quick_gelu"] is False


def test_every_part_holds_the_images_of_its_category_in_its_domain(replicated, data):
    official = rows(replicated, "test")
    names = names_of(replicated)
    for task in replicated.tasks()[::7]:
        examples = data.examples(task.name, "test")
        wanted = Counter(
            name
            for name, domain in official
            if domain == task.domain and name in CATEGORIES[task.category]
        )
        found = Counter(names[label] for label in examples[:]["label"].tolist())
        assert found == wanted
        assert len(examples) > 0


def test_a_class_of_two_categories_has_the_label_of_the_first(replicated, data):
    names = names_of(replicated)
    labels = data.examples("office/infograph", "test")[:]["label"].tolist()
    assert names.index("nail") in labels
    assert max(label for label in labels if names[label] == "nail") == names.index(
        "nail"
    )


def test_a_fifth_of_each_domains_shuffled_list_is_for_validation(replicated, data):
    official = rows(replicated, "train")
    for domain in ("clipart", "sketch"):
        own = [row for row, (_, of) in enumerate(official) if of == domain]
        random.Random(42).shuffle(own)
        held = own[: round(len(own) / 5)]
        category = next(name for name in CATEGORIES if home(name) == domain)
        wanted = Counter(
            official[row][0] for row in held if official[row][0] in CATEGORIES[category]
        )
        rest = Counter(
            official[row][0]
            for row in own[len(held) :]
            if official[row][0] in CATEGORIES[category]
        )
        names = names_of(replicated)
        for split, expected in (("validation", wanted), ("train", rest)):
            labels = data.examples(f"{category}/{domain}", split)[:]["label"].tolist()
            assert Counter(names[label] for label in labels) == expected


def test_counts_are_those_of_the_official_lists():
    counts = DomainNet().counts()
    assert len(counts) == 24 * 3 + 120
    # 350 training images of each class are drawings, 70 of them for validation
    assert counts["music/quickdraw.train"] == 10 * 280
    assert counts["music/quickdraw.validation"] == 10 * 70
    assert counts["bird/quickdraw.test"] == 7 * 150


def test_where_models_and_data_lie_is_no_part_of_what_the_data_are(replicated):
    assert replicated.options() == DomainNet().options()
    assert replicated.fetches() == ()
    (fetch,) = DomainNet().fetches()
    assert fetch.what.startswith("wltjr1007/DomainNet@")
    assert fetch.bytes > 10**10


def test_parts_that_are_not_there_are_named(data):
    with pytest.raises(UnknownNameError, match=r"part of domainnet 'bird/clipart\.tr"):
        data.examples("bird/clipart", "train")
    with pytest.raises(InputError, match="starts from a published model"):
        data.pretraining()


def test_a_data_set_without_a_class_is_refused(tmp_path):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["bed", "couch"]),
            "domain": datasets.ClassLabel(names=list(DOMAINS)),
        }
    )
    one = datasets.Dataset.from_dict(
        {"image": [None], "label": [0], "domain": [0]}, features
    )
    splits = datasets.DatasetDict({"train": one, "test": one})
    splits.save_to_disk(str(DATA.folder(tmp_path)))
    with pytest.raises(
        UnknownNameError, match="class of wltjr1007/DomainNet 'bathtub'"
    ):
        DomainNet(saved=str(tmp_path)).prepare(tmp_path)


def test_an_expert_of_a_task_that_is_not_held_in_is_refused():
    with pytest.raises(ValueError, match="no held-in task of domainnet 'bird/clipart'"):
        DomainNet(experts={"bird/clipart": "somewhere"})


def test_only_models_that_are_published_can_be_named():
    with pytest.raises(ValueError, match="no published model trained on laion2b"):
        DomainNet(model="ViT-L-14")
