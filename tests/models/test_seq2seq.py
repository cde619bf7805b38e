"""The seq2seq family."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    T5Tokenizer,
)

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.evaluation import evaluate
from mergegrid.models import get_family
from mergegrid.models.linear_inputs import linear_weights
from mergegrid.models.tokens import as_tokens
from mergegrid.statistics.fisher import diagonal_fisher
from mergegrid.statistics.gram import gram_matrices
from mergegrid.statistics.kfac import output_gradient_grams
from mergegrid.suites.examples import Concatenation
from mergegrid.suites.texts import Text, Texts

FAMILY = get_family("seq2seq")
CONFIG = {
    "model_type": "t5",
    "d_model": 16,
    "d_kv": 8,
    "num_heads": 2,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "dropout_rate": 0.1,
    "relative_attention_num_buckets": 8,
}
KINDS = {
    "t5": CONFIG,
    "untied t5": CONFIG | {"tie_word_embeddings": False},
    "mt5": CONFIG | {"model_type": "mt5", "feed_forward_proj": "gated-gelu"},
}
CHOOSING = Texts(
    [
        Text("is a b", ("yes",), ("yes", "no")),
        Text("is b", ("no",), ("yes", "no", "a b c")),
        Text("is c a b a c", ("a b",), ("c", "a b")),
    ]
)
FREE = Texts([Text("say a", ("a a a",)), Text("say b c", ("b", "c b"))])
TIED = "model.shared.weight"


def architecture(kind="t5", **options):
    return {
        "config": KINDS[kind],
        "prompt_tokens": 8,
        "answer_tokens": 6,
        "vocabulary": ["is", "say", "yes", "no", "a", "b", "c"],
    } | options


def create(kind="t5", seed=0, **options):
    model = FAMILY.create(architecture(kind, **options), seed=seed)
    FAMILY.freeze(model)
    return model.eval()


def unpadded(examples):
    """Give every example by itself."""
    return [examples[number : number + 1] for number in range(len(examples))]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_transformers_computes(kind):
    model = create(kind)
    batch = FAMILY.encode(model, CHOOSING)[:]
    theirs = model.model(
        input_ids=batch["input"],
        attention_mask=batch["input_mask"].long(),
        labels=batch["label"],
    )
    ours = model(batch)
    torch.testing.assert_close(ours, theirs.logits.log_softmax(dim=-1))
    is_label = batch["label"] >= 0
    gold = ours[is_label].gather(1, batch["label"][is_label][:, None])
    torch.testing.assert_close(-gold.mean(), theirs.loss)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_log_probability(kind):
    model = create(kind)
    examples = FAMILY.encode(model, CHOOSING)
    together = model(examples[:])
    for index, alone in enumerate(unpadded(examples)):
        length = alone["label"].shape[1]
        torch.testing.assert_close(together[index, :length], model(alone)[0])


@pytest.mark.parametrize("measure", [gram_matrices, output_gradient_grams])
def test_padding_changes_no_gram_matrix(measure):
    model = create()
    examples = FAMILY.encode(model, CHOOSING)
    padded, alone = measure(model, examples), measure(model, examples, batch_size=1)
    assert padded.keys() == linear_weights(model).keys()
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["t5", "untied t5"])
def test_gram_matrices_are_those_of_all_tokens_without_padding(kind):
    model = create(kind)
    examples = FAMILY.encode(model, CHOOSING)
    names = {id(p): name for name, p in model.named_parameters()}
    rows = {}

    def keep(module, given):
        inputs = given[0].detach().double()
        rows.setdefault(names[id(module.weight)], []).append(inputs.flatten(0, 1))

    for module in model.modules():
        if isinstance(module, nn.Linear) and names[id(module.weight)] != TIED:
            module.register_forward_pre_hook(keep)
    for alone in unpadded(examples):
        model(alone)
    expected = {}
    for name, parts in rows.items():
        inputs = torch.cat(parts)
        expected[name] = (inputs.T @ inputs / len(inputs)).float()
    measured = gram_matrices(create(kind), examples, batch_size=2)
    torch.testing.assert_close(measured, expected, atol=1e-5, rtol=1e-4)
    assert ("model.lm_head.weight" in measured) == (kind == "untied t5")


@pytest.mark.parametrize("positions", ["mean", "sum"])
def test_fisher_information_is_that_of_a_loop_over_examples(positions):
    model = create()
    examples = FAMILY.encode(model, CHOOSING)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for alone in unpadded(examples):
        model.zero_grad()
        gold = model(alone)[0].gather(1, alone["label"][0][:, None])
        (gold.mean() if positions == "mean" else gold.sum()).backward()
        for name, parameter in model.named_parameters():
            expected[name] += parameter.grad**2 / len(examples)
    measured = diagonal_fisher(
        model, examples, variant="empirical", positions=positions
    )
    torch.testing.assert_close(measured, expected, atol=1e-6, rtol=1e-3)


def test_sampled_fisher_information_does_not_depend_on_the_batch():
    model = create()
    examples = FAMILY.encode(model, CHOOSING)
    together = diagonal_fisher(model, examples)
    alone = diagonal_fisher(model, examples, batch_size=1)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-3)


def test_tied_embeddings_are_merged_once_and_stay_tied(tmp_path):
    FAMILY.save(create(), tmp_path)
    model = FAMILY.load(tmp_path)
    merged = FAMILY.merged_parameters(model)
    kept = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    assert sum(p.numel() for p in merged.values()) == kept
    assert [name for name, p in merged.items() if len(p) == 10] == [TIED]
    FAMILY.set_parameters(model, {name: p + 1 for name, p in merged.items()})
    table = model.model.shared.weight
    assert model.model.lm_head.weight is table
    assert model.model.encoder.embed_tokens.weight is table
    torch.testing.assert_close(table, create().model.shared.weight + 1)


def test_an_output_layer_of_its_own_is_merged_too_and_stays_so(tmp_path):
    model = create("untied t5")
    FAMILY.save(model, tmp_path)
    names = FAMILY.merged_parameters(FAMILY.load(tmp_path)).keys()
    assert {TIED, "model.lm_head.weight"} < names
    batch = FAMILY.encode(model, CHOOSING)[:]
    torch.testing.assert_close(FAMILY.load(tmp_path)(batch), model(batch))
    described = FAMILY.import_model(tmp_path, architecture("t5"))
    assert described.model.lm_head.weight is not described.model.shared.weight


@pytest.mark.parametrize("choices", ["sum", "mean"])
def test_choices_are_ranked_as_by_a_loop_over_them(choices):
    model = create(choices=choices)
    scores = model.rank(FAMILY.encode(model, CHOOSING)[:])
    for index, text in enumerate(CHOOSING[:]):
        question = as_tokens([*model.tokenizer(text.prompt).input_ids, 1])[None]
        for number, choice in enumerate(text.choices):
            answer = as_tokens([*model.tokenizer(choice).input_ids, 1])
            logits = model.model(input_ids=question, labels=answer[None]).logits[0]
            gold = logits.double().log_softmax(dim=-1)[range(len(answer)), answer]
            expected = gold.sum() if choices == "sum" else gold.mean()
            assert scores[index, number].item() == pytest.approx(expected.item())
        assert scores[index, len(text.choices) :].isneginf().all()


def test_choosing_is_scored():
    model = create(choices="mean")
    examples = FAMILY.encode(model, CHOOSING)
    right = sum(
        model.rank(alone).argmax().item() == text.choices.index(text.answers[0])
        for alone, text in zip(unpadded(examples), CHOOSING[:], strict=True)
    )
    assert evaluate(model, examples, metric="choice", batch_size=2).correct == right


@pytest.mark.parametrize("beams", [1, 3])
def test_writing_is_what_transformers_generates(beams):
    model = create("untied t5", seed=4, beams=beams)
    batch = FAMILY.encode(model, FREE)[:]
    how = GenerationConfig(
        max_new_tokens=6,
        num_beams=beams,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    expected = []
    for ids, mask in zip(batch["input"], batch["input_mask"], strict=True):
        written = model.model.generate(ids[mask][None], generation_config=how)
        words = model.tokenizer.convert_ids_to_tokens(written[0])
        expected.append(" ".join(word for word in words if "<" not in word))
    assert model.write(batch) == expected
    assert len(set(expected)) == (1 if beams == 1 else 2)


def test_writing_takes_the_likeliest_token_that_forward_gives():
    model = create("untied t5", seed=5)
    batch = FAMILY.encode(model, FREE)[:1]
    written = []
    while len(written) < 6 and 1 not in written:
        labels = torch.tensor([[*written, 0]])
        written.append(model(batch | {"label": labels})[0, -1].argmax().item())
    words = model.tokenizer.decode([token for token in written if token > 2])
    assert model.write(batch) == [words]


def test_free_answers_are_scored_against_every_acceptable_one():
    model = create("untied t5", seed=5)
    given = model.write(FAMILY.encode(model, FREE)[:])
    texts = Texts(
        [
            Text(text.prompt, ("c", own))
            for text, own in zip(FREE[:], given, strict=True)
        ]
    )
    examples = FAMILY.encode(model, texts)
    assert evaluate(model, examples, metric="exact_match").value == 1


def test_questions_of_all_kinds_can_be_trained_on_together():
    model = create()
    parts = [FAMILY.encode(model, texts) for texts in (CHOOSING, FREE)]
    batch = Concatenation(parts)[torch.tensor([3, 0])]
    assert model(batch).shape == (2, 4, 10)
    mixed = FAMILY.encode(model, Texts([*CHOOSING[:1], *FREE[:1]]))
    assert model(mixed[:]).shape == (2, 4, 10)


def test_texts_end_with_the_end_however_long_they_are():
    model = create()
    text = Text("a b c a b c a b c", ("a b c a b c a",), ("a b c a b c a",))
    row = FAMILY.encode(model, Texts([text]))[:]
    assert row["input"].tolist() == [[7, 8, 9, 7, 8, 9, 7, 1]]
    assert row["label"].tolist() == [[7, 8, 9, 7, 8, 1]]
    assert row["choice"].tolist() == [[[7, 8, 9, 7, 8, 1]]]


def test_a_word_without_a_token_is_named():
    model = create()
    with pytest.raises(InputError, match="'d' is not in the model's vocabulary"):
        FAMILY.encode(model, Texts([Text("a d b", ("a",))]))[:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_model_loads_here_and_with_transformers(kind, tmp_path):
    model = create(kind)
    FAMILY.save(model, tmp_path)
    batch = FAMILY.encode(model, CHOOSING)[:]
    loaded = FAMILY.load(tmp_path)
    torch.testing.assert_close(loaded(batch), model(batch))
    torch.testing.assert_close(
        FAMILY.encode(loaded, CHOOSING)[:]["input"], batch["input"]
    )
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    logits = theirs(
        input_ids=batch["input"],
        attention_mask=batch["input_mask"].long(),
        labels=batch["label"],
    ).logits
    torch.testing.assert_close(logits.log_softmax(dim=-1), model(batch))
    assert AutoTokenizer.from_pretrained(tmp_path)("a b").input_ids == [7, 8]


def test_the_same_seed_makes_the_same_model():
    state = torch.get_rng_state()
    one, same, other = (create("untied t5", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(one.parameters(), same.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    assert not torch.equal(one.model.shared.weight, other.model.shared.weight)
    assert not torch.equal(one.model.lm_head.weight, other.model.lm_head.weight)


def test_evaluation_has_no_dropout_and_training_has():
    model = create()
    batch = FAMILY.encode(model, CHOOSING)[:]
    torch.testing.assert_close(model(batch), model(batch), rtol=0, atol=0)
    model.train()
    assert not torch.equal(model(batch), model(batch))


def test_costs_are_counted_without_memory():
    def count(model, device):
        example = FAMILY.example(architecture())
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model({name: tensor.to(device) for name, tensor in example.items()})
        return counter.get_total_flops()

    with torch.device("meta"):
        model = FAMILY.create(architecture(), seed=0)
    assert count(model, "meta") == count(create(), "cpu")


def test_a_model_without_a_tokenizer_is_made_and_encodes_nothing():
    published = architecture(vocabulary=None)
    with torch.device("meta"):
        model = FAMILY.create(published, seed=0)
    example = {k: tensor.to("meta") for k, tensor in FAMILY.example(published).items()}
    assert model(example).shape == (1, 6, 32128)
    with pytest.raises(InputError, match="no tokenizer"):
        FAMILY.encode(model, CHOOSING)[:]


def test_a_published_model_brings_its_tokenizer(tmp_path):
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in "abcehinosy"]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0)
    published = create("mt5", vocabulary=None, config=KINDS["mt5"] | {"vocab_size": 16})
    published.model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    wanted = architecture(vocabulary=None, config=KINDS["mt5"] | {"vocab_size": 16})
    model = FAMILY.import_model(tmp_path, wanted)
    batch = FAMILY.encode(model, CHOOSING)[:]
    expected = tokenizer("is a b").input_ids
    assert expected[-1] == 1
    assert batch["input"][0][batch["input_mask"][0]].tolist() == expected
    torch.testing.assert_close(model.eval()(batch), published(batch))


@pytest.fixture
def stored(tmp_path):
    FAMILY.save(create(), tmp_path)
    return tmp_path


def test_another_architecture_is_refused_by_the_name_of_what_differs(stored):
    other = architecture(config=CONFIG | {"d_ff": 32})
    with pytest.raises(InputError, match="its d_ff is 24, not 32"):
        FAMILY.import_model(stored, other)
    with pytest.raises(InputError, match="its vocab_size is 10, not 9"):
        FAMILY.import_model(stored, architecture(vocabulary=list("abcdef")))
    with pytest.raises(InputError, match="its model_type is 't5', not 'mt5'"):
        FAMILY.import_model(stored, architecture(config=CONFIG | {"model_type": "mt5"}))
    with pytest.raises(InputError, match="leave out tie_word_embeddings: false"):
        FAMILY.import_model(stored, architecture("untied t5"))


def test_an_expert_is_refused_that_does_not_fit_its_pretrained_model(stored):
    assert TIED in FAMILY.import_expert(stored, architecture(), create())
    with pytest.raises(InputError, match="its d_model is 16, not 32"):
        FAMILY.import_expert(
            stored, architecture(config=CONFIG | {"d_model": 32}), create()
        )


def test_incomplete_and_foreign_directories_are_refused(stored, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(InputError, match=r"no config\.json in"):
        FAMILY.import_model(empty, architecture())
    with pytest.raises(InputError, match=r"no mergegrid\.json in"):
        FAMILY.load(empty)
    GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1)).save_pretrained(empty)
    with pytest.raises(UnknownNameError, match="'gpt2'"):
        FAMILY.import_model(empty, architecture())
    about = json.loads((stored / "mergegrid.json").read_text())
    (empty / "mergegrid.json").write_text(json.dumps(about | {"family": "causal"}))
    with pytest.raises(InputError, match="family 'causal', not 'seq2seq'"):
        FAMILY.load(empty)
    parameters = load_file(stored / "model.safetensors")
    parameters.pop("decoder.final_layer_norm.weight")
    save_file(parameters, stored / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        InputError, match=r"'decoder\.final_layer_norm\.weight' is miss"
    ):
        FAMILY.load(stored)


def test_an_unknown_kind_or_option_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match="model_type for seq2seq 'bart'"):
        FAMILY.create(architecture(config={"model_type": "bart"}), seed=0)
    with pytest.raises(InputError, match="architecture: beam: extra inputs"):
        FAMILY.create(architecture(beam=2), seed=0)
    with pytest.raises(TypeError, match="Linear is no Seq2SeqModel"):
        FAMILY.save(nn.Linear(2, 2), tmp_path)
