"""Classes with several prompts, with the same prompts, and of one task among many."""

import open_clip
import pytest
import torch

from mergegrid.errors import UnknownNameError
from mergegrid.models import get_family
from mergegrid.models.open_clip_architecture import (
    Head,
    label_of,
    named_model,
    read_architecture,
)
from mergegrid.statistics.fisher import diagonal_fisher
from mergegrid.suites.examples import TensorExamples
from tests.replicas.clip import MODEL

FAMILY = get_family("open_clip")
TEMPLATES = ["a photo of a {}.", "the {}!"]


def architecture(*heads, **rest):
    return MODEL | {"heads": list(heads), "tokenizer": "clip"} | rest


def model(*heads, **rest):
    made = FAMILY.create(architecture(*heads, **rest), seed=0)
    FAMILY.freeze(made)
    return made.eval()


def images(count=4):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (count, 3, 32, 32), generator=generator)
    return pixels.to(torch.uint8)


def embedded(model, text):
    with torch.no_grad():
        return model.text(open_clip.tokenize([text], 24))[0].double()


def test_templates_are_filled_in_with_every_name_of_a_class():
    head = Head(classes=["cat", ["happy", "smiling"]], templates=TEMPLATES)
    assert head.prompts() == [
        ("a photo of a cat.", "the cat!"),
        (
            "a photo of a happy.",
            "a photo of a smiling.",
            "the happy!",
            "the smiling!",
        ),
    ]


def test_a_scaled_head_is_the_normalized_mean_of_normalized_embeddings():
    made = model({"classes": ["cat", "dog"], "templates": TEMPLATES})
    for row, name in enumerate(("cat", "dog")):
        texts = [embedded(made, template.format(name)) for template in TEMPLATES]
        mean = sum(text / text.norm() for text in texts) / len(texts)
        wanted = made.logit_scale.double().exp() * mean / mean.norm()
        torch.testing.assert_close(
            made.head[row].double(), wanted, rtol=1e-5, atol=1e-6
        )


def test_a_raw_head_is_embeddings_as_they_are_and_so_are_the_images():
    made = model({"classes": ["cat", "dog"], "templates": TEMPLATES[:1]}, scaled=False)
    wanted = torch.stack([embedded(made, f"a photo of a {n}.") for n in ("cat", "dog")])
    torch.testing.assert_close(made.head.double(), wanted, rtol=1e-5, atol=1e-6)
    pixels = (images().float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        scores = made.visual(pixels).double() @ wanted.T
    torch.testing.assert_close(
        made({"image": images()}).double(),
        scores.log_softmax(dim=-1),
        rtol=1e-4,
        atol=1e-4,
    )


def test_classes_with_the_same_prompts_score_exactly_alike_and_the_first_wins():
    names = [f"thing {number}" for number in range(40)]
    made = model({"classes": [*names, "thing 7"]})
    answers = made({"image": images(16)})
    assert torch.equal(answers[:, 7], answers[:, 40])
    torch.testing.assert_close(answers.exp().sum(dim=-1), torch.ones(16))
    chosen = answers.argmax(dim=-1)
    best = answers.max(dim=-1).values
    assert torch.equal(answers[:, 40] == best, chosen == 7)
    prompts = read_architecture(made.architecture).prompts()
    assert label_of(prompts) == [*range(40), 7]


def test_examples_choose_among_the_labels_from_their_first_to_their_last():
    together = model({"classes": ["cat", "dog", "owl"]}, {"classes": ["red", "blue"]})
    alone = model({"classes": ["red", "blue"]})
    batch = {
        "image": images(),
        "first": torch.tensor([3, 3, 0, 0]),
        "last": torch.tensor([4, 4, 2, 4]),
    }
    answers = together(batch)
    assert answers.isneginf().tolist() == [
        [True, True, True, False, False],
        [True, True, True, False, False],
        [False, False, False, True, True],
        [False, False, False, False, False],
    ]
    torch.testing.assert_close(answers[:2, 3:], alone({"image": images()})[:2])
    torch.testing.assert_close(answers.exp().sum(dim=-1), torch.ones(4))


@pytest.mark.parametrize("variant", ["exact", "sampled", "empirical"])
def test_fisher_of_one_tasks_examples_is_that_of_a_model_without_the_others(variant):
    together = model({"classes": ["cat", "dog", "owl"]}, {"classes": ["red", "blue"]})
    alone = model({"classes": ["red", "blue"]})
    labels = torch.tensor([0, 1, 1, 0])
    ranges = {"first": torch.full((4,), 3), "last": torch.full((4,), 4)}
    chosen = TensorExamples({"image": images(), "label": labels + 3} | ranges)
    plain = TensorExamples({"image": images(), "label": labels})
    one = diagonal_fisher(together, chosen, variant=variant)
    other = diagonal_fisher(alone, plain, variant=variant)
    for name, wanted in other.items():
        assert one[name].isfinite().all()
        torch.testing.assert_close(one[name], wanted, rtol=1e-3, atol=1e-9)


def test_a_stored_head_is_read_and_not_computed_again(tmp_path):
    made = model({"classes": ["cat", "dog"], "templates": TEMPLATES})
    FAMILY.save(made, tmp_path)
    loaded = FAMILY.load(tmp_path)
    assert torch.equal(loaded.head, made.head)
    assert "_tokens" not in vars(loaded)


def test_pixels_are_normalized_by_channel():
    mean, deviation = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    head = {"classes": ["cat", "dog"]}
    made = model(head, mean=mean, deviation=deviation)
    plain = model(head, mean=(0.0, 0.0, 0.0), deviation=(1 / 255,) * 3)
    pixels = images().float() / 255
    wanted = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(
        3, 1, 1
    )
    torch.testing.assert_close(made({"image": images()}), plain({"image": wanted}))


def test_published_models_are_open_clips_by_their_names():
    sections = named_model("ViT-L-14", quick_gelu=True)
    assert (sections["embed_dim"], sections["quick_gelu"]) == (768, True)
    assert sections["vision_cfg"]["layers"] == 24
    with pytest.raises(UnknownNameError, match="Did you mean 'ViT-B-32'"):
        named_model("ViT-B-31", quick_gelu=True)
