"""The causal family, on small models of several architectures."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.func import functional_call
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.evaluation import evaluate
from mergegrid.models import get_family
from mergegrid.models.linear_inputs import linear_weights
from mergegrid.statistics.fisher import diagonal_fisher
from mergegrid.statistics.gram import gram_matrices
from mergegrid.suites.padding import pad
from mergegrid.suites.texts import Text, Texts

FAMILY = get_family("causal")
WORDS = ["red", "green", "blue", "is", "the", "sky", "grass", "what"]
SIZES = {"vocab_size": 3 + len(WORDS), "bos_token_id": 1, "eos_token_id": 1}
SIZES |= {"pad_token_id": 0}
WIDE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 32,
}
CONFIGS = {
    "llama": SIZES | WIDE | {"model_type": "llama"},
    "tied llama": SIZES | WIDE | {"model_type": "llama", "tie_word_embeddings": True},
    "qwen2": SIZES | WIDE | {"model_type": "qwen2"},
    "gpt2": SIZES
    | {
        "model_type": "gpt2",
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 32,
    },
}
QUESTIONS = Texts(
    [
        Text("what is the sky", ("blue",), ("red", "green", "blue")),
        Text("the grass", ("green is green",), ("green is green", "blue")),
        Text("red", ("the sky is red",), ("the sky is red", "blue", "what")),
    ]
)


def architecture(which="llama", **changes):
    sizes = {"prompt_tokens": 6, "answer_tokens": 5, "vocabulary": WORDS}
    return {"config": CONFIGS[which]} | sizes | changes


@pytest.fixture(scope="module", params=CONFIGS)
def stored(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    FAMILY.save(FAMILY.create(architecture(request.param), seed=0), directory)
    return directory


@pytest.fixture
def model(stored):
    return FAMILY.load(stored)


@pytest.fixture
def llama():
    made = FAMILY.create(architecture(), seed=0)
    FAMILY.freeze(made)
    return made.eval()


def questions(model, texts=QUESTIONS):
    return FAMILY.encode(model, texts)


def theirs(stored, ids):
    """Run transformers' own model on one row of tokens that has no padding."""
    model = AutoModelForCausalLM.from_pretrained(stored).eval()
    return model(ids[None]).logits[0].log_softmax(dim=-1)


def padded(batch, *, left, right):
    """Put padding that would matter, if it were looked at, around every question."""
    wide = dict(batch)
    for name in ("input", "input_mask"):
        fill = 7 if name == "input" else 0
        shape = (len(batch[name]), 1)
        before = torch.full(shape, fill, dtype=batch[name].dtype).expand(-1, left)
        after = torch.full(shape, fill, dtype=batch[name].dtype).expand(-1, right)
        wide[name] = torch.cat([before, batch[name], after], dim=1)
    wide["label"] = pad("label", [*batch["label"], torch.zeros(9).long()])[:-1]
    return wide


class Padded:
    """Examples with padding on both sides of every question and behind every answer."""

    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, indices):
        return padded(self.examples[indices], left=2, right=3)


def test_log_probabilities_are_those_of_transformers(model, stored):
    batch = questions(model)[:]
    ours = model(batch)
    for row in range(3):
        question = batch["input"][row][batch["input_mask"][row]]
        answer = batch["label"][row][batch["label"][row] >= 0]
        expected = theirs(stored, torch.cat([question, answer]))
        wanted = expected[len(question) - 1 : -1]
        torch.testing.assert_close(ours[row, : len(answer)], wanted)


@pytest.mark.parametrize(("left", "right"), [(4, 0), (0, 4), (2, 3)])
@pytest.mark.parametrize("gradients", [True, False])
def test_padding_changes_no_log_probability(model, left, right, gradients):
    batch = questions(model)[:]
    width = batch["label"].shape[1]
    with torch.set_grad_enabled(gradients):
        ours = model(padded(batch, left=left, right=right))[:, :width]
        plain = model(batch)
    known = batch["label"] >= 0
    torch.testing.assert_close(ours[known], plain[known])


def test_padding_changes_no_gram_matrix(model):
    plain = gram_matrices(model, questions(model), batch_size=1)
    together = gram_matrices(model, Padded(questions(model)), batch_size=3)
    assert plain.keys() == together.keys() == linear_weights(model).keys()
    torch.testing.assert_close(together, plain)


def test_a_gram_matrix_has_the_tokens_of_questions_and_of_answers_but_the_last(llama):
    texts = Texts([Text("what is the sky", ("blue",))])
    tokens = torch.tensor([10, 6, 7, 8, 5])  # "what is the sky blue", then the end
    inputs = llama.model.model.embed_tokens(tokens)
    layer = llama.model.model.layers[0]
    rows = layer.input_layernorm(inputs).detach().double().numpy()
    found = gram_matrices(llama, questions(llama, texts))
    name = "model.model.layers.0.self_attn.q_proj.weight"
    np.testing.assert_allclose(found[name], rows.T @ rows / 5, rtol=1e-5, atol=1e-6)


def test_padding_changes_no_fisher_information(model):
    plain = diagonal_fisher(model, questions(model), batch_size=1)
    together = diagonal_fisher(model, Padded(questions(model)), batch_size=3)
    torch.testing.assert_close(together, plain, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("positions", ["mean", "sum"])
def test_fisher_information_is_that_of_a_loop_over_examples(model, positions):
    batch = questions(model)[:]
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    total = {name: torch.zeros_like(p).double() for name, p in parameters.items()}
    for row in range(3):
        one = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
        log_probabilities = functional_call(model, leaves, (one,))[0]
        terms = [
            log_probabilities[place, label]
            for place, label in enumerate(one["label"][0].tolist())
            if label >= 0
        ]
        score = sum(terms) / (len(terms) if positions == "mean" else 1)
        gradients = torch.autograd.grad(score, list(leaves.values()))
        for name, gradient in zip(leaves, gradients, strict=True):
            total[name] += gradient.double().square() / 3
    found = diagonal_fisher(
        model, questions(model), variant="empirical", positions=positions
    )
    expected = {name: tensor.float() for name, tensor in total.items()}
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("choices", ["sum", "mean"])
def test_choices_are_ranked_by_the_likelihood_of_their_tokens(stored, choices):
    model = FAMILY.load(stored)
    model.architecture = model.architecture.model_copy(update={"choices": choices})
    batch = questions(model)[:]
    found = model.rank(batch)
    assert found.shape == (3, 3)
    assert found[1, 2] == -torch.inf  # the second question has two choices
    for row, choice in ((0, 1), (1, 0), (2, 2)):
        question = batch["input"][row][batch["input_mask"][row]]
        answer = batch["choice"][row, choice]
        answer = answer[answer >= 0]
        log = theirs(stored, torch.cat([question, answer]))[len(question) - 1 : -1]
        each = log.gather(1, answer[:, None])
        expected = each.sum() if choices == "sum" else each.mean()
        torch.testing.assert_close(found[row, choice], expected)


def test_choices_are_a_metric(llama):
    found = evaluate(llama, questions(llama), metric="choice")
    ranked = llama.rank(questions(llama)[:]).argmax(dim=1)
    assert found.correct == (ranked == questions(llama)[:]["answer"]).sum()


def test_answers_are_the_likeliest_tokens_one_after_the_other(stored):
    model = FAMILY.load(stored)
    batch = questions(model)[:]
    words = ["<pad>", "", "<unk>", *WORDS]
    for row, answer in enumerate(model.write(padded(batch, left=1, right=2))):
        ids = batch["input"][row][batch["input_mask"][row]]
        expected = []
        while len(expected) < 5 and (not expected or expected[-1] != 1):
            expected.append(int(theirs(stored, ids)[-1].argmax()))
            ids = torch.cat([ids, torch.tensor(expected[-1:])])
        written = [words[token] for token in expected if token > 1]
        assert answer.replace("<unk>", "").split() == [
            w for w in written if w != "<unk>"
        ]


def test_a_question_keeps_its_end_and_an_answer_its_beginning(llama):
    long = Texts([Text("red red red is the sky blue", ("is the sky is the sky",))])
    batch = questions(llama, long)[:]
    assert batch["input"].tolist() == [[3, 3, 6, 7, 8, 5]]
    assert batch["label"].tolist() == [[6, 7, 8, 6, 7]]


def test_an_answer_ends_where_the_architecture_says_so():
    for end, expected in ((True, [[5, 1]]), (False, [[5]])):
        model = FAMILY.create(architecture(end=end), seed=0)
        assert questions(model)[:1]["label"].tolist() == expected


def test_an_answer_has_the_tokens_that_it_has_after_its_question(tmp_path):
    fast = Tokenizer(models.BPE(unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    specials = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=specials)
    fast.train_from_iterator([" ".join(WORDS)] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    config = CONFIGS["llama"] | {"vocab_size": len(tokenizer)}
    LlamaForCausalLM(LlamaConfig(**config)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    made = FAMILY.import_model(tmp_path, {"config": config})
    batch = questions(made, Texts([Text("the sky is", ("blue",))]))[:]
    whole = tokenizer("the sky is blue").input_ids
    assert [*batch["input"][0], *batch["label"][0][:-1]] == whole
    assert batch["label"][0, -1] == tokenizer.eos_token_id


def test_what_is_saved_loads_with_from_pretrained(model, stored):
    answered = model(questions(model)[:])
    ids = questions(model)[:1]["input"][0]
    label = questions(model)[:1]["label"][0, 0]
    expected = theirs(stored, ids)[-1, label]
    torch.testing.assert_close(answered[0, 0, label], expected)
    names = {file.name for file in stored.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names


def test_a_model_saved_again_is_the_same(model, stored, tmp_path):
    FAMILY.save(model, tmp_path)
    ours, theirs = model.state_dict(), FAMILY.load(tmp_path).state_dict()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    for name in ("config.json", "mergegrid.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (stored / name).read_bytes()


def test_tied_embeddings_are_one_parameter():
    tied = FAMILY.create(architecture("tied llama"), seed=0)
    free = FAMILY.create(architecture("llama"), seed=0)
    head = "model.lm_head.weight"
    assert head in FAMILY.merged_parameters(free)
    assert head not in FAMILY.merged_parameters(tied)
    values = {n: p + 1 for n, p in FAMILY.merged_parameters(tied).items()}
    FAMILY.set_parameters(tied, values)
    embeddings = values["model.model.embed_tokens.weight"]
    assert torch.equal(tied.model.lm_head.weight, embeddings)


def test_weights_that_gpt2_holds_transposed_are_turned(tmp_path):
    config = {k: v for k, v in CONFIGS["gpt2"].items() if k != "model_type"}
    published = GPT2LMHeadModel(GPT2Config(**config))
    published.save_pretrained(tmp_path)
    made = FAMILY.import_model(tmp_path, architecture("gpt2"))
    name = "transformer.h.0.attn.c_attn.weight"
    assert linear_weights(made)[f"model.{name}"] == (48, 16)
    ours = FAMILY.merged_parameters(made)[f"model.{name}"]
    torch.testing.assert_close(ours.T, published.state_dict()[name])


def test_shards_are_read(tmp_path):
    published = LlamaForCausalLM(LlamaConfig(**CONFIGS["llama"]))
    published.save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    made = FAMILY.import_model(tmp_path, architecture())
    torch.testing.assert_close(dict(made.model.state_dict()), published.state_dict())


def test_the_same_seed_makes_the_same_model_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    one, same, other = (
        FAMILY.create(architecture(), seed=seed).model.lm_head.weight
        for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_model_without_memory_has_the_shapes_of_one_with(model):
    made = {name: p.shape for name, p in model.named_parameters()}
    config = model.architecture.model_dump()
    with torch.device("meta"):
        empty = FAMILY.create(config, seed=0)
    assert {name: p.shape for name, p in empty.named_parameters()} == made
    blank = {name: t.to("meta") for name, t in FAMILY.example(config).items()}
    assert empty.to("meta")(blank).shape == (1, 5, SIZES["vocab_size"])


def test_what_is_no_such_model_is_one_line(tmp_path):
    def refused(directory=tmp_path, error=InputError, **changes):
        with pytest.raises(error) as caught:
            FAMILY.import_model(directory, architecture(**changes))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert f"no config.json in {tmp_path}" in refused()
    published = LlamaForCausalLM(LlamaConfig(**CONFIGS["llama"]))
    published.save_pretrained(tmp_path)
    wider = CONFIGS["llama"] | {"intermediate_size": 32}
    assert "its intermediate_size is 24, not 32" in refused(config=wider)
    assert "its model_type is 'llama', not 'gpt2'" in refused(which="gpt2")
    strange = CONFIGS["llama"] | {"model_type": "lama"}
    assert "Did you mean 'llama'" in refused(config=strange, error=UnknownNameError)
    assert "prompt_token: extra inputs" in refused(prompt_token=3)
    state = dict(published.state_dict())
    del state["model.norm.weight"]
    published.save_pretrained(tmp_path, state_dict=state)
    assert "'model.norm.weight' is missing" in refused()
    config = json.loads((tmp_path / "config.json").read_text())
    config["intermediate_size"] = 32
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "has another shape" in refused(config=wider)
    assert "There is no mergegrid.json" in _refusal(FAMILY.load, tmp_path)


def _refusal(opened, directory):
    with pytest.raises(InputError) as caught:
        opened(directory)
    return str(caught.value)


def test_texts_without_a_tokenizer_are_refused():
    made = FAMILY.create(architecture(vocabulary=None), seed=0)
    with pytest.raises(InputError, match="no tokenizer"):
        questions(made)[:]
