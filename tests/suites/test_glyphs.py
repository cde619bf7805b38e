"""The suite of drawn characters."""

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from mergegrid.errors import UnknownNameError
from mergegrid.suites import SUITES
from mergegrid.suites.glyph_characters import CATEGORIES, class_name, masks
from mergegrid.suites.glyph_styles import STYLES, draw
from mergegrid.suites.glyphs import DOMAINS, FILE, Glyphs

TINY = {
    "categories": 3,
    "classes_per_category": 2,
    "train": 4,
    "validation": 2,
    "test": 3,
    "generalization": 2,
    "pretraining": 2,
}


@pytest.fixture(scope="module")
def tiny():
    return Glyphs(**TINY)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    directory = tmp_path_factory.mktemp("glyphs")
    tiny.prepare(directory)
    return directory


@pytest.fixture(scope="module")
def data(tiny, folder):
    return tiny.open(folder)


def test_every_category_is_held_in_once_and_generalizes_everywhere_else():
    tasks = Glyphs(digits=False).tasks()
    assert [task.held_in for task in tasks] == [True] * 12 + [False] * 60
    assert len({task.name for task in tasks}) == 72
    for category in list(CATEGORIES)[:12]:
        own = [task for task in tasks if task.category == category]
        assert sum(task.held_in for task in own) == 1
        assert {task.domain for task in own} == set(DOMAINS)


def test_domains_have_equally_many_experts():
    homes = [task.domain for task in Glyphs().tasks() if task.held_in]
    assert {homes.count(domain) for domain in DOMAINS} == {2}


def test_digits_by_hand_are_one_more_generalization_task():
    (task,) = set(Glyphs().tasks()) - set(Glyphs(digits=False).tasks())
    assert (task.name, task.held_in) == ("digits/handwritten", False)


def test_the_same_seed_draws_the_same_bytes(tiny, folder, tmp_path):
    tiny.prepare(tmp_path)
    assert (tmp_path / FILE).read_bytes() == (folder / FILE).read_bytes()


def test_another_seed_draws_other_images_and_leaves_handwriting_alone(folder, tmp_path):
    Glyphs(**TINY, seed=1).prepare(tmp_path)
    first, second = load_file(folder / FILE), load_file(tmp_path / FILE)
    same = {name for name in first if torch.equal(first[name], second[name])}
    images = {name for name in first if name.endswith(".image")}
    assert same & images == {"digits/handwritten.test.image"}


def test_more_of_one_split_changes_no_other(folder, tmp_path):
    Glyphs(**TINY | {"train": 5}).prepare(tmp_path)
    first, second = load_file(folder / FILE), load_file(tmp_path / FILE)
    assert {
        name
        for name in first
        if first[name].shape != second[name].shape
        or not torch.equal(first[name], second[name])
    } == {
        f"{task.name}.train.{part}"
        for task in Glyphs(**TINY).tasks()
        if task.held_in
        for part in ("image", "label")
    }


def test_every_part_has_the_images_that_were_announced(tiny, data):
    for part, count in tiny.counts().items():
        if "pretraining" not in part:
            task, split = part.split(".")
            assert len(data.examples(task, split)) == count
    pretraining = [len(examples) for examples in data.pretraining()]
    assert sum(pretraining) == sum(
        count for part, count in tiny.counts().items() if "pretraining" in part
    )


def test_labels_are_positions_in_the_prompts(tiny, data):
    characters = [c for name in list(CATEGORIES)[:3] for c in CATEGORIES[name][:2]]
    (head,) = tiny.architecture()["heads"]
    assert head["classes"] == [class_name(c) for c in characters]
    for number, task in enumerate(tiny.tasks()[:3]):
        labels = data.examples(task.name, "test")[:]["label"].unique().tolist()
        assert labels == [2 * number, 2 * number + 1]


def test_no_image_is_in_two_parts(folder):
    images = [
        image.numpy().tobytes()
        for name, tensor in load_file(folder / FILE).items()
        if name.endswith(".image")
        for image in tensor
    ]
    assert len(set(images)) == len(images)


def test_pretraining_pictures_are_darker_than_those_of_tasks(tiny, data):
    pretraining = data.pretraining()[0][:]["image"]
    assert pretraining.max() <= 255 * tiny.pretraining_exposure + 1
    sketch = data.examples("arrows/sketch", "train")[:]["image"]
    assert sketch.float().mean() > pretraining.float().mean()


def test_characters_are_smaller_in_pretraining(tiny, folder):
    def height(part):
        rows = (load_file(folder / FILE)[f"{part}.image"] < 100).any(dim=(1, 3))
        return rows.sum(dim=1).float().mean().item()

    # In clipart every character has a black outline of the same width, a pixel here.
    ratio = (height("digits/clipart.pretraining") - 2) / (
        height("digits/clipart.test") - 2
    )
    assert ratio == pytest.approx(tiny.pretraining_zoom, abs=0.07)


def test_handwriting_is_scikit_learns_dark_on_white(data, tiny):
    batch = data.examples("digits/handwritten", "test")[:]
    pixels, digits = load_digits(return_X_y=True)
    zero = torch.from_numpy(pixels[digits == 0][0]).float()
    assert batch["label"].tolist() == [0] * tiny.test + [1] * tiny.test
    assert batch["image"][0, :, 0, 0].tolist() == [255, 255, 255]
    ink = (255 - batch["image"][0, 0].float()).sum() / 255
    share = 23**2 / 8**2  # the 8 x 8 pixels cover 23 x 23 of the 32 x 32
    assert ink == pytest.approx(zero.sum().item() / 16 * share, rel=0.03)


def test_an_unknown_task_and_a_split_that_it_lacks_are_named(data):
    with pytest.raises(UnknownNameError, match=r"mean 'arrows/sketch\.test'"):
        data.examples("arows/sketch", "test")
    with pytest.raises(UnknownNameError, match=r"digits/sketch\.train"):
        data.examples("digits/sketch", "train")


def test_patches_must_tile_the_image():
    with pytest.raises(ValidationError, match="image_size = 20 is no multiple of"):
        Glyphs(image_size=20)


def test_progress_counts_up_to_the_number_of_parts(tmp_path):
    seen = []
    suite = Glyphs(**TINY | {"categories": 1})
    suite.prepare(tmp_path, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(number, len(seen)) for number in range(1, len(seen) + 1)]


@pytest.mark.parametrize("category", CATEGORIES)
def test_characters_of_a_category_differ_and_have_ink_in_every_font(category):
    assert len(CATEGORIES[category]) == len(set(CATEGORIES[category])) == 6
    drawn = [masks(category, character) for character in CATEGORIES[category]]
    assert all(mask.max() > 200 for masks in drawn for mask in masks)
    for font in zip(*drawn, strict=True):
        # A font draws all characters that it lacks as the same box.
        assert len({mask.tobytes() for mask in font}) == 6


def test_prompts_are_distinct():
    suite = Glyphs(categories=16, classes_per_category=6)
    prompts = suite.architecture()["heads"][0]["classes"]
    assert len(set(prompts)) == 96
    assert prompts[0] == "digit zero"


@pytest.mark.parametrize("style", STYLES)
def test_a_style_draws_the_character_and_varies_it(style):
    ink = torch.from_numpy(masks("chess", "♔")).float()[:1].unsqueeze(1) / 255
    ink = ink.expand(2, 1, -1, -1)

    def drawn(ink):
        generator = torch.Generator().manual_seed(0)
        options = {"size": 32, "jitter": 0.0, "zoom": 1.0, "exposure": 1.0}
        return draw(ink, style, generator=generator, **options)

    pictures = drawn(ink)
    assert pictures.shape == (2, 3, 32, 32)
    assert pictures.dtype == torch.uint8
    assert not torch.equal(*pictures)
    change = (pictures.float() - drawn(0 * ink).float()).abs().mean(dim=(0, 1))
    is_inked = torch.nn.functional.max_pool2d(ink[0], 8, 2, 3)[0] > 0.5
    assert change[is_inked].mean() > 20
    assert change[~is_inked].mean() < 0.2 * change[is_inked].mean()


def test_a_sketch_leaves_the_inside_of_a_character_empty():
    ink = torch.zeros(1, 1, 64, 64)
    ink[..., 16:48, 16:48] = 1
    options = {"size": 64, "jitter": 0.0, "zoom": 1.0, "exposure": 1.0}
    generator = torch.Generator().manual_seed(0)
    picture = draw(ink, "sketch", generator=generator, **options)[0, 0].float()
    assert picture[20:44, 20:44].mean() == pytest.approx(0.92 * 255, abs=3)
    assert picture[20:44, 15:17].mean() < 180


def test_suites_are_found_by_name():
    without_tasks_of_their_own = {
        name: SUITES[name] for name in SUITES if name != "own"
    }
    assert all(suite().name == n for n, suite in without_tasks_of_their_own.items())
