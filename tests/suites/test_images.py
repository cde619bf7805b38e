"""Images that stay encoded until they are asked for."""

import io

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from mergegrid.errors import InputError
from mergegrid.suites import images
from mergegrid.suites.images import ImageExamples, preprocess, write_images


def picture(size, mode="RGB", seed=0):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(256, size=(*size, 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def part(tmp_path):
    path = tmp_path / "task.test.parquet"
    rows = [(encoded(picture((20 + i, 33), seed=i)), i % 3) for i in range(7)]
    write_images(path, rows)
    return path


@pytest.mark.parametrize("size", [(48, 80), (90, 31), (16, 16)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_images_are_resized_and_cropped_as_open_clip_does(size, mode):
    image = picture(size, mode)
    theirs = open_clip.image_transform(
        24, is_train=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )(image)
    torch.testing.assert_close(preprocess(image, 24).float() / 255, theirs)


def test_what_is_fetched_is_what_was_written_in_the_order_asked_for(part):
    examples = ImageExamples(part, 16)
    assert len(examples) == 7
    batch = examples[torch.tensor([5, 0])]
    wanted = [preprocess(picture((20 + i, 33), seed=i), 16) for i in (5, 0)]
    assert torch.equal(batch["image"], torch.stack(wanted))
    assert batch["label"].tolist() == [2, 0]
    assert batch.keys() == {"image", "label"}
    assert examples[7:]["image"].shape == (0, 3, 16, 16)


def test_labels_of_a_task_are_numbered_from_its_first(part):
    batch = ImageExamples(part, 16, (10, 12))[:4]
    assert batch["label"].tolist() == [10, 11, 12, 10]
    assert batch["first"].tolist() == [10] * 4
    assert batch["last"].tolist() == [12] * 4


@pytest.mark.parametrize("memory", [0, 3 * 16 * 16 * 7])
def test_images_are_decoded_once_as_far_as_memory_goes(part, monkeypatch, memory):
    decoded = []
    plain = images.preprocess
    monkeypatch.setattr(images, "_kept", images._Kept(memory))
    monkeypatch.setattr(
        images, "preprocess", lambda *given: decoded.append(0) or plain(*given)
    )
    examples = ImageExamples(part, 16)
    once, again = examples[:5]["image"], examples[:]["image"]
    assert torch.equal(again[:5], once)
    assert len(decoded) == (7 if memory else 12)
    wanted = preprocess(picture((26, 33), seed=6), 16)
    assert torch.equal(again[6], wanted)


def test_memory_is_given_back_with_the_examples(part, monkeypatch):
    monkeypatch.setattr(images, "_kept", images._Kept(3 * 16 * 16 * 7))
    first = ImageExamples(part, 16)
    assert ImageExamples(part, 16)._decoded is None
    del first
    assert ImageExamples(part, 16)._decoded is not None


def test_a_damaged_image_is_named(tmp_path):
    path = tmp_path / "task.test.parquet"
    write_images(path, [(encoded(picture((20, 20))), 0), (b"no image", 1)])
    with pytest.raises(InputError, match=r"Image 1 of task\.test cannot be decoded"):
        ImageExamples(path, 16)[:]
