import importlib

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.errors import InputError
from mergegrid.mergekit_file import is_mergekit
from mergegrid.mergekit_layers import count_layers
from mergegrid.mergekit_methods import METHODS
from mergegrid.mergekit_parameters import read_parameters
from mergegrid.mergekit_recipe import make_merge, read_merge

EMBEDDINGS, NORM, HEAD = (
    "model.embed_tokens.weight",
    "model.norm.weight",
    "lm_head.weight",
)


def query(layer):
    return f"model.layers.{layer}.self_attn.q_proj.weight"


def gate(layer):
    return f"model.layers.{layer}.mlp.gate_proj.weight"


def llama(layers=4):
    inside = [part(layer) for layer in range(layers) for part in (query, gate)]
    return [EMBEDDINGS, *inside, NORM, HEAD]


def read(text):
    return make_merge(yaml.safe_load(text))


def translated(text, tensor, layers=4):
    return read(text).translation(tensor, count_layers(llama(layers)))


def option(text, name, tensor, layers=4):
    return translated(text, tensor, layers)[1][name]


# Files in the shapes that mergekit documents

LINEAR = """
models:
  - model: org/first
    parameters:
      weight: 1.0
  - model: org/second
    parameters:
      weight: 0.3
  - model: org/third
    parameters:
      weight: 0.5
merge_method: linear
dtype: float16
"""

SLERP = """
slices:
  - sources:
      - model: org/first
        layer_range: [0, 4]
      - model: org/second
        layer_range: [0, 4]
merge_method: slerp
base_model: org/first
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5 # fallback for the rest
dtype: float16
"""

TIES = """
models:
  - model: org/first
    parameters:
      density: [1, 0.7, 0.1] # density gradient
      weight: 1.0
  - model: org/second
    parameters:
      density: 0.5
      weight: [0, 0.3, 0.7, 1] # weight gradient
  - model: org/third
    parameters:
      density: 0.33
      weight:
        - filter: mlp
          value: 0.5
        - value: 0
merge_method: ties
base_model: org/base
parameters:
  normalize: true
  int8_mask: true
dtype: float16
"""

DARE = """
models:
  - model: org/base
    # no parameters necessary for base model
  - model: org/first
    parameters:
      density: 0.53
      weight: 0.4
  - model: org/second
    parameters:
      density: 0.53
      weight: 0.3
merge_method: dare_ties
base_model: org/base
parameters:
  int8_mask: true
dtype: bfloat16
"""

PAIR = """
models: [{model: org/first}, {model: org/second}]
base_model: org/base
"""


def pair(method, parameters):
    return f"{PAIR}merge_method: {method}\nparameters: {{{parameters}}}"


def test_linear_is_an_average_with_weights():
    assert translated(LINEAR, HEAD) == ("average", {"weights": (1.0, 0.3, 0.5)})


@pytest.mark.parametrize(
    ("tensor", "t"),
    [
        (query(0), 0.0),
        (query(1), 0.5 + (0.3 - 0.5) / 3),
        (query(2), 0.3 + (0.7 - 0.3) * 2 / 3),
        (query(3), 1.0),
        (gate(0), 1.0),
        (gate(3), 0.0),
        (EMBEDDINGS, 0.5),
        (HEAD, 0.5),
        ("model.layers.2.input_layernorm.weight", 0.5),
    ],
)
def test_slerp_moves_along_the_depth_for_some_tensors(tensor, t):
    method, options = translated(SLERP, tensor)
    assert method == "slerp"
    assert options == {"t": pytest.approx(t), "scope": "tensor"}


def test_slerp_goes_from_the_base_model_to_the_other():
    text = "merge_method: slerp\nbase_model: b\nparameters: {t: 0.3}\nmodels: "
    for models in ("[{model: a}, {model: b}]", "[{model: a}]"):
        assert list(read(text + models).experts) == ["b", "a"]


@pytest.mark.parametrize(
    ("tensor", "density", "weights"),
    [
        (gate(0), (1.0, 1.0, 0.33), (1.0, 0.0, 0.5)),
        (gate(1), (0.8, 0.5, 0.33), (1.0, 0.3, 0.5)),
        (gate(3), (0.1, 0.5, 0.33), (1.0, 1.0, 0.5)),
        (query(3), (0.1, 0.5, 0.1), (1.0, 1.0, 0.0)),
        (NORM, 1.0, (1.0, 0.0, 0.0)),
    ],
)
def test_ties_has_gradients_of_density_and_weight_for_each_expert(
    tensor, density, weights
):
    method, options = translated(TIES, tensor)
    assert method == "ties"
    assert options == {
        "density": pytest.approx(density),
        "selection": "at_least_one",
        "weights": pytest.approx(weights),
        "scale": 1.0,
        "scope": "tensor",
        "zero_sum": "plus",
        "aggregate": "mean",
    }


def test_dare_ties_thins_to_the_norm_and_adds_up_what_agrees():
    assert translated(DARE, HEAD) == (
        "dare_ties",
        {
            "drop_rate": 0.47,
            "rescale": "norm",
            "density": 1.0,
            "weights": (0.4, 0.3),
            "scale": 1.0,
            "scope": "tensor",
            "zero_sum": "plus",
            "aggregate": "sum",
        },
    )


AGREEING = {"scope": "tensor", "zero_sum": "plus"}


@pytest.mark.parametrize(
    ("method", "parameters", "expected"),
    [
        (
            "task_arithmetic",
            "weight: 0.5, lambda: 0.7",
            ("task_arithmetic", {"weights": (0.5, 0.5), "scale": 0.7}),
        ),
        ("task_arithmetic", "weight: 1", ("task_arithmetic", {"scale": 1.0})),
        (
            "dare_linear",
            "weight: 1, density: 0.7",
            ("dare", {"drop_rate": 0.3, "rescale": "norm", "scale": 1.0}),
        ),
        (
            "dare_linear",
            "weight: 1, density: 0.7, rescale: false",
            ("dare", {"drop_rate": 0.3, "rescale": "none", "scale": 1.0}),
        ),
        (
            "ties",
            "weight: 1, density: 0.2, normalize: false",
            (
                "ties",
                {
                    "density": 0.2,
                    "selection": "at_least_one",
                    "scale": 1.0,
                    "aggregate": "sum",
                    **AGREEING,
                },
            ),
        ),
        (
            "della",
            "weight: 1, density: 0.7, epsilon: 0.1, lambda: 1.1",
            (
                "della",
                {
                    "drop_rate": 0.3,
                    "window": 0.2,
                    "rescale": "norm",
                    "scale": 1.1,
                    "election": "mass",
                    "aggregate": "mean",
                    **AGREEING,
                },
            ),
        ),
        (
            "della_linear",
            "weight: 1, density: 0.5",
            (
                "della",
                {
                    "drop_rate": 0.5,
                    "window": 0.3,
                    "rescale": "norm",
                    "scale": 1.0,
                    "election": "none",
                },
            ),
        ),
        (
            "breadcrumbs",
            "weight: 1, density: 0.9",
            (
                "breadcrumbs",
                {
                    "keep": 0.9,
                    "outliers": 0.01,
                    "extent": "tensor",
                    "scale": 1.0,
                    "election": "none",
                },
            ),
        ),
        (
            "breadcrumbs_ties",
            "weight: 1, density: 0.9, gamma: 0.05",
            (
                "breadcrumbs",
                {
                    "keep": 0.9,
                    "outliers": 0.05,
                    "extent": "tensor",
                    "scale": 1.0,
                    "election": "mass",
                    "aggregate": "sum",
                    **AGREEING,
                },
            ),
        ),
        ("model_stock", "", ("model_stock", {"scope": "tensor", "clamp": False})),
        (
            "linear",
            "weight: 0.5, normalize: false",
            ("average", {"weights": (0.5, 0.5, 0.5), "normalize": False}),
        ),
    ],
)
def test_every_method_has_its_translation(method, parameters, expected):
    assert translated(pair(method, parameters), HEAD) == expected


def test_passthrough_is_one_model_with_a_scale():
    text = "merge_method: passthrough\nmodels: [{model: a}]\n"
    scaled = (
        f"{text}parameters: {{scale: [{{filter: o_proj, value: 0}}, {{value: 1}}]}}"
    )
    assert translated(text, HEAD) == ("average", {})
    assert translated(scaled, HEAD) == ("average", {})
    assert translated(scaled, "model.layers.1.self_attn.o_proj.weight") == (
        "average",
        {"weights": (0.0,), "normalize": False},
    )


def test_twelve_methods_are_read():
    assert list(METHODS) == [
        "linear", "slerp", "task_arithmetic", "ties", "dare_ties", "dare_linear",
        "della", "della_linear", "breadcrumbs", "breadcrumbs_ties", "model_stock",
        "passthrough",
    ]  # fmt: skip


# Weights and densities


def test_normalize_divides_sums_by_the_weights():
    text = pair("task_arithmetic", "weight: 3, normalize: true")
    assert option(text, "weights", HEAD) == (0.5, 0.5)


def test_normalize_leaves_weights_alone_that_add_up_to_zero():
    text = """
    models:
      - {model: a, parameters: {weight: 2}}
      - {model: b, parameters: {weight: -2}}
    base_model: c
    merge_method: task_arithmetic
    parameters: {normalize: true}
    """
    assert option(text, "weights", HEAD) == (2.0, -2.0)


def test_weights_of_an_average_may_be_negative():
    text = """
    models:
      - {model: a, parameters: {weight: 1}}
      - {model: b, parameters: {weight: -2}}
    merge_method: linear
    """
    assert option(text, "weights", HEAD) == (1.0, -2.0)


def test_no_density_is_as_no_weight_except_for_the_sum_of_weights():
    text = """
    models:
      - {model: a, parameters: {weight: 1, density: 0}}
      - {model: b, parameters: {weight: 3, density: 0.6}}
    base_model: c
    merge_method: dare_linear
    parameters: {normalize: true}
    """
    options = translated(text, HEAD)[1]
    assert options["weights"] == (0.0, 0.75)
    assert options["drop_rate"] == 0.4


def test_nothing_is_left_if_no_expert_has_a_density():
    options = translated(pair("della", "weight: 1, density: 0"), HEAD)[1]
    assert options["weights"] == (0.0, 0.0)
    assert options["drop_rate"] == options["window"] == 0.0


def test_a_density_above_one_keeps_everything():
    options = translated(pair("della", "weight: 1, density: 1.5"), HEAD)[1]
    assert options["drop_rate"] == options["window"] == 0.0


def test_numbers_of_experts_that_count_for_nothing_are_those_of_others():
    text = """
    models:
      - {model: a, parameters: {weight: 0, density: 0.1, gamma: 0.2}}
      - {model: b, parameters: {weight: 1, density: 0.6, gamma: 0.03}}
    base_model: c
    merge_method: breadcrumbs
    """
    options = translated(text, HEAD)[1]
    assert (options["keep"], options["outliers"]) == (0.6, 0.03)


# Where parameters stand, and what they may be


def test_the_most_specific_place_decides():
    text = """
    slices:
      - sources:
          - {model: a, layer_range: [0, 4], parameters: {weight: 0.1}}
          - {model: b, layer_range: [0, 4]}
          - {model: base, layer_range: [0, 4]}
        parameters: {weight: 0.2}
      - sources:
          - {model: a, layer_range: [4, 8]}
          - {model: b, layer_range: [4, 8], parameters: {weight: 0.4}}
          - {model: base, layer_range: [4, 8]}
    base_model: base
    merge_method: task_arithmetic
    parameters: {weight: 0.3}
    """
    assert option(text, "weights", query(0), layers=8) == (0.1, 0.2)
    assert option(text, "weights", query(4), layers=8) == (0.3, 0.4)


def test_a_place_without_a_value_for_a_tensor_leaves_it_to_the_next():
    text = """
    models:
      - {model: a, parameters: {weight: {filter: mlp, value: 0.1}}}
      - {model: b, parameters: {weight: []}}
    base_model: base
    merge_method: task_arithmetic
    parameters: {weight: 0.3}
    """
    assert option(text, "weights", gate(1)) == (0.1, 0.3)
    assert option(text, "weights", query(1)) == (0.3, 0.3)


def test_the_first_condition_that_holds_decides():
    conditions = "[{filter: q_proj, value: 1}, {filter: '*', value: 2}, {value: 3}]"
    text = pair("slerp", f"t: {conditions}")
    text = text.replace("[{model: org/first}, {model: org/second}]", "[{model: a}]")
    assert option(text, "t", query(1)) == 1
    assert option(text, "t", gate(1)) == 2


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=6), st.integers(2, 12))
def test_gradients_are_interpolated_over_the_layers(gradient, layers):
    text = f"""
    models: [{{model: a}}]
    base_model: base
    merge_method: task_arithmetic
    parameters: {{weight: 1, lambda: {gradient}}}
    """
    depths = np.linspace(0, 1, layers)
    knots = np.linspace(0, 1, len(gradient))
    expected = (
        np.interp(depths, knots, gradient) if len(gradient) > 1 else gradient * layers
    )
    found = [option(text, "scale", query(layer), layers) for layer in range(layers)]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_gradients_begin_anew_in_every_slice():
    text = """
    slices:
      - sources: [{model: a, layer_range: [0, 3]}, {model: b, layer_range: [0, 3]}]
        parameters: {t: [0, 1]}
      - sources: [{model: a, layer_range: [3, 4]}, {model: b, layer_range: [3, 4]}]
        parameters: {t: [0.2, 0.8]}
    base_model: a
    merge_method: slerp
    """
    found = [option(text, "t", query(layer)) for layer in range(4)]
    assert found == [0, 0.5, 1, 0.8]  # a single layer is the last one
    deeper = text.replace("[3, 4]", "[3, 6]")
    found = [option(deeper, "t", query(layer), layers=6) for layer in (3, 4, 5)]
    assert found == [0.2, 0.5, 0.8]
    assert option(text, "t", EMBEDDINGS) == 0
    assert option(text, "t", NORM) == option(text, "t", HEAD) == 0.2


@pytest.mark.parametrize(
    ("tensor", "is_before"),
    [
        ("transformer.wte.weight", True),
        ("transformer.wpe.weight", True),
        ("bert.embeddings.LayerNorm.weight", True),
        ("transformer.word_embeddings.weight", True),
        ("model.tok_embeddings.weight", True),
        ("gpt_neox.embed_in.weight", True),
        ("gpt_neox.embed_out.weight", False),
        ("transformer.ln_f.weight", False),
        ("score.weight", False),
    ],
)
def test_outside_the_layers_embeddings_belong_to_the_first_slice(tensor, is_before):
    text = """
    slices:
      - sources: [{model: a, layer_range: [0, 2]}]
        parameters: {scale: 2}
      - sources: [{model: a, layer_range: [2, 4]}]
        parameters: {scale: 3}
    merge_method: passthrough
    """
    assert option(text, "weights", tensor) == ((2.0,) if is_before else (3.0,))


def test_every_stack_of_layers_has_its_own_depth():
    names = [f"encoder.block.{n}.layer.0.k.weight" for n in range(3)]
    names += [f"decoder.block.{n}.layer.1.k.weight" for n in range(5)]
    layers = count_layers([*names, "shared.weight"])
    assert layers == {"encoder.block": 3, "decoder.block": 5}
    merge = read(pair("task_arithmetic", "weight: 1, lambda: [0, 1]"))
    found = [merge.translation(name, layers)[1]["scale"] for name in names]
    assert found == [0, 0.5, 1, 0, 0.25, 0.5, 0.75, 1]


def test_switches_change_in_steps():
    text = pair("task_arithmetic", "weight: 1, normalize: [false, true]")
    found = ["weights" in translated(text, query(layer))[1] for layer in range(4)]
    assert found == [False, False, False, True]


def test_numbers_that_yaml_takes_for_text_are_numbers():
    text = pair("task_arithmetic", "weight: 1, lambda: 1e-1")
    assert option(text, "scale", HEAD) == 0.1


# The models


def test_the_base_model_is_no_expert_where_task_vectors_are_merged():
    merge = read(DARE)
    assert merge.pretrained == "org/base"
    assert merge.experts == {"first": "org/first", "second": "org/second"}


def test_the_base_model_is_merged_as_any_other_into_an_average():
    merge = read(pair("linear", "weight: 1"))
    assert list(merge.experts.values()) == ["org/first", "org/second", "org/base"]
    assert list(read(LINEAR + "base_model: org/third").experts.values()) == [
        "org/first",
        "org/second",
        "org/third",
    ]


def test_the_base_model_of_slices_is_averaged_only_if_it_is_a_source():
    text = """
    slices: [{sources: [{model: a, layer_range: [0, 4]}]}]
    base_model: base
    merge_method: linear
    """
    assert read(text).experts == {"a": "a"}


def test_experts_are_called_by_their_paths_if_the_ends_are_alike():
    text = "models: [{model: one/final}, {model: two/final}]\nmerge_method: linear"
    assert list(read(text).experts) == ["one/final", "two/final"]
    assert list(read(text.replace("two/final", ".")).experts) == ["one/final", "."]


def test_models_may_be_written_at_length():
    text = "models: [{model: {model: {path: my models/a}}}]\nmerge_method: linear"
    assert read(text).experts == {"a": "my models/a"}


def test_the_type_of_the_result_is_that_to_write_or_to_merge_in():
    assert read(LINEAR).dtype == "float16"
    assert read(LINEAR + "out_dtype: torch.bfloat16").dtype == "bfloat16"
    assert read(pair("linear", "weight: 1")).dtype is None


def test_the_tokenizer_is_the_base_models():
    assert read(LINEAR).file.tokenizer_source is None
    for text in (
        "tokenizer_source: base",
        "tokenizer: {source: base}",
        "tokenizer_source: org/base",
    ):
        assert read(f"{DARE}{text}").file.tokenizer_source == "base"


def test_parameters_without_effect_are_listed():
    text = """
    models:
      - {model: base, parameters: {weight: 1}}
      - {model: a, parameters: {weight: 1, lambda: 0.5, t: 0, int8_mask: true}}
    base_model: base
    merge_method: ties
    parameters: {gamma: 0.1, int8_mask: true}
    """
    assert read(text).unused == (
        "parameters.gamma has no effect: ties does not use it.",
        "models[0].parameters.weight has no effect: this is the base model.",
        "models[1].parameters.lambda has no effect: it belongs under parameters of the "
        "whole merge.",
        "models[1].parameters.t has no effect: ties does not use it.",
    )
    assert read(TIES).unused == read(DARE).unused == ()


# Recipes


def test_every_tensor_has_a_recipe_and_equal_ones_are_one():
    recipes = read(SLERP).recipes(llama())
    assert list(recipes) == llama()
    assert recipes[query(0)].identity() == {
        "method": "slerp",
        "version": recipes[query(0)].version,
        "options": {"t": 0.0, "variant": "raw", "scope": "tensor"},
    }
    assert recipes[query(0)] is recipes[gate(3)]
    assert recipes[NORM] is recipes[HEAD]
    assert recipes[query(0)] is not recipes[query(1)]


@pytest.mark.parametrize("name", METHODS)
def test_every_translation_is_a_recipe_of_ours(name):
    numbers = {"weight": 0.5, "density": 0.6, "epsilon": 0.1, "gamma": 0.1, "t": 0.2}
    document = {
        "merge_method": name,
        "models": [{"model": "a"}, {"model": "b"}][: METHODS[name].models[1]],
        "base_model": None if METHODS[name].base == "any" else "base",
        "parameters": numbers,
    }
    method, options = make_merge(document).translation(HEAD, {})
    module = importlib.import_module(f"mergegrid.methods.{method}")
    recipe = module.METHOD.recipe(options)
    assert recipe.options | options == recipe.options


@pytest.mark.parametrize("text", [LINEAR, SLERP, TIES, DARE])
def test_files_are_read_from_disk(text, tmp_path):
    path = tmp_path / "merge.yml"
    path.write_text(text)
    assert is_mergekit(yaml.safe_load(text))
    assert len(read_merge(path).recipes(llama())) == len(llama())


def test_messages_name_the_file(tmp_path):
    path = tmp_path / "merge.yml"
    path.write_text("merge_method: linear\nmodels: [{model: a, weight: 1}]")
    with pytest.raises(InputError, match=r"merge.yml: models\[0\].weight: .*'weight'"):
        read_merge(path)


def test_other_recipe_files_are_not_mergekits():
    assert not is_mergekit({"method": "average", "experts": {}})


# What is refused, and where


def changed(text, **changes):
    document = yaml.safe_load(text)
    for path, value in changes.items():
        *parts, last = (int(p) if p.isdigit() else p for p in path.split("__"))
        target = document
        for part in parts:
            target = target[part]
        target[last] = value
    return document


TWO_SLICES = """
slices:
  - sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 2]}]
  - sources: [{model: a, layer_range: [2, 4]}, {model: b, layer_range: [2, 4]}]
base_model: a
merge_method: slerp
parameters: {t: 0.5}
"""


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            changed(LINEAR, merge_method="nuslerp"),
            "^merge_method: .*no merge.*'nuslerp'",
        ),
        (changed(LINEAR, merge_method=["linear"]), "^merge_method: .*name of a method"),
        (changed(LINEAR, merge_method="line"), "mean 'linear'.* Known: linear, slerp"),
        (changed(LINEAR, name="x"), "^name: There is no key 'name'"),
        (changed(LINEAR, int8_mask=True), "^int8_mask: There is no key"),
        (changed(LINEAR, modules={"default": {}}), "^modules: .*not supported"),
        (changed(LINEAR, chat_template="auto"), "^chat_template: .*not supported"),
        (
            changed(LINEAR, tokenizer_source="union"),
            "^tokenizer_source: 'union' is not",
        ),
        (
            changed(LINEAR, tokenizer_source="org/first"),
            "^tokenizer_source: 'org/first'",
        ),
        (changed(LINEAR, tokenizer={}), "^tokenizer.source: 'union' is not supported"),
        (
            changed(LINEAR, tokenizer={"source": "base", "tokens": {"<s>": {}}}),
            "^tokenizer.tokens: .*not supported",
        ),
        (
            changed(LINEAR, tokenizer={"source": "base", "pad_to_multiple_of": 8}),
            "^tokenizer.pad_to_multiple_of: .*not supported",
        ),
        (
            changed(LINEAR, tokenizer={"source": "base"}, tokenizer_source="base"),
            "^tokenizer: there is a tokenizer_source already",
        ),
        (changed(LINEAR, dtype="int64"), "^dtype: There is no type 'int64'"),
        (changed(LINEAR, out_dtype="fp16"), "^out_dtype: .*Did you mean 'float16'"),
        (changed(LINEAR, slices=[{}]), "models: or slices:; there is both"),
        (changed(LINEAR, models=None), "models: or slices:; there is neither"),
        (changed(LINEAR, models={"a": {}}), "^models: there should be a list"),
        (changed(LINEAR, models__0="a"), r"^models\[0\]: there should be keys"),
        (
            changed(LINEAR, models__0={}),
            r"^models\[0\].model: there should be the path",
        ),
        (
            changed(LINEAR, models__1__layer_range=[0, 4]),
            r"^models\[1\].layer_range: There is no key",
        ),
        (changed(LINEAR, models__1__model="org/first"), r"^models\[1\].model: .*twice"),
        (
            changed(LINEAR, models__1__model="a+lora"),
            r"^models\[1\].model: .*an adapter",
        ),
        (
            changed(LINEAR, models__1__model="a@main"),
            r"^models\[1\].model: .*a revision",
        ),
        (
            changed(LINEAR, models__1__model={"model": "a", "lora": "b"}),
            r"^models\[1\].model.lora: it is not supported",
        ),
        (
            changed(LINEAR, models__1__model={"model": {"path": "a", "revision": "b"}}),
            r"^models\[1\].model.model.revision: it is not supported",
        ),
        (
            changed(
                LINEAR, models__1__model={"model": "a", "override_architecture": "b"}
            ),
            r"^models\[1\].model.override_architecture: it is not supported",
        ),
        (changed(TIES, base_model=""), "^base_model: there should be the path"),
        (changed(TIES, base_model=None), "^base_model is missing; ties needs one"),
        (
            changed(TIES, models__0__parameters__densty=1),
            r"^models\[0\].parameters.densty: There is no parameter 'densty'. Did you "
            "mean 'density'",
        ),
        (
            changed(TIES, parameters=[1]),
            "^parameters: there should be parameters by name",
        ),
        (
            changed(TIES, parameters__lambda="much"),
            "^parameters.lambda: 'much' should be a number",
        ),
        (
            changed(TIES, parameters__lambda=float("nan")),
            "^parameters.lambda: nan should be a number",
        ),
        (
            changed(TIES, parameters__normalize="perhaps"),
            "^parameters.normalize: 'perhaps' should be true or false",
        ),
        (
            changed(TIES, models__0__parameters__density=[1, "low"]),
            r"^models\[0\].parameters.density\[1\]: 'low' should be a number",
        ),
        (
            changed(TIES, models__2__parameters__weight=[{"filter": "mlp"}]),
            r"^models\[2\].parameters.weight\[0\].value is missing",
        ),
        (
            changed(TIES, models__2__parameters__weight=[{"value": 1}, 2]),
            r"^models\[2\].parameters.weight\[1\]: 2 stands among conditions",
        ),
        (
            changed(TIES, models__2__parameters__weight={"value": 1, "filters": "mlp"}),
            r"^models\[2\].parameters.weight.filters: There is no key",
        ),
        (
            changed(TIES, models__2__parameters__weight={"value": 1, "filter": 3}),
            r"^models\[2\].parameters.weight.filter: 3 should be part",
        ),
        (
            changed(TIES, models__2__parameters__weight={"value": {"value": 1}}),
            r"^models\[2\].parameters.weight.value: .* should be a number",
        ),
        (
            changed(SLERP, slices__0__residual_weight=0.1),
            r"^slices\[0\].residual_weight: it is not supported",
        ),
        (
            changed(SLERP, slices__0__sources=[]),
            r"^slices\[0\].sources: there should be a list",
        ),
        (
            changed(SLERP, slices__0__base_model="org/second"),
            r"^slices\[0\].base_model: a base model for some layers",
        ),
        (
            changed(SLERP, slices__0__sources__1__layer_range=[0, 5]),
            r"^slices\[0\].sources\[1\].layer_range: \[0, 5\] is not \[0, 4\] as in "
            r"slices\[0\].sources\[0\]",
        ),
        (
            changed(SLERP, slices__0__sources__1__layer_range=[4, 0]),
            r"^slices\[0\].sources\[1\].layer_range: there should be the number",
        ),
        (
            changed(SLERP, slices__0__sources__1={"model": "org/second"}),
            r"^slices\[0\].sources\[1\].layer_range: .*, not None",
        ),
        (
            changed(SLERP, slices__0__sources__1__model="org/first"),
            r"^slices\[0\].sources\[1\].model: 'org/first' is there twice",
        ),
        (
            changed(TWO_SLICES, slices__1__sources__1__model="c"),
            r"^slices\[1\].sources: other models than in slices\[0\]",
        ),
        (
            changed(
                TWO_SLICES,
                slices__1__sources__0__layer_range=[1, 4],
                slices__1__sources__1__layer_range=[1, 4],
            ),
            r"^slices\[1\].sources\[0\].layer_range: it starts at 1, not at 2",
        ),
        (
            changed(
                SLERP,
                slices__0__sources__0__layer_range=[1, 4],
                slices__0__sources__1__layer_range=[1, 4],
            ),
            r"^slices\[0\].sources\[0\].layer_range: it starts at 1, not at 0",
        ),
        (
            changed(SLERP, base_model="org/other"),
            r"^slices\[0\]: slerp is for exactly 1 model besides base_model, not 2",
        ),
        (
            changed(DARE, merge_method="model_stock", models__2__model="org/base"),
            r"^models\[2\].model: 'org/base' is there twice",
        ),
        (
            changed(DARE, merge_method="model_stock", models=[{"model": "org/first"}]),
            "^models: model_stock is for at least 2 models besides base_model, not 1",
        ),
        (
            changed(LINEAR, merge_method="passthrough"),
            "^models: passthrough is for exactly 1 model, base_model included, not 3",
        ),
        (
            changed(DARE, models=[{"model": "org/base"}]),
            "^models: dare_ties is for at least 1 model besides base_model, not 0",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_its_place(document, message):
    with pytest.raises(InputError, match=message):
        make_merge(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            pair("linear", ""),
            f"^parameters for {EMBEDDINGS}: there is no weight for org/f",
        ),
        (pair("slerp", "").replace("{model: org/first}, ", ""), ": there is no t"),
        (
            pair("slerp", "t: 2").replace("{model: org/first}, ", ""),
            f"^parameters for {EMBEDDINGS}: slerp: t = 2.0 is not possible",
        ),
        (
            pair("ties", "weight: [{filter: mlp, value: 1}]"),
            f"^parameters for {EMBEDDINGS}: there is no weight for org/first",
        ),
        (pair("linear", "weight: 0"), ": the weights add up to zero"),
        (pair("ties", "weight: 1, rescale: true"), ": rescale is not supported"),
        (pair("breadcrumbs", "weight: 1, rescale: true"), ": rescale is not supported"),
        (pair("model_stock", "filter_wise: true"), ": filter_wise is not supported"),
        (
            pair("della", "weight: 1, density: 0.9"),
            ": density 0.9 plus and minus epsilon 0.15 should be",
        ),
        (
            pair("della", "weight: 1, density: 0.5, epsilon: 0.5"),
            ": density 0.5 plus and minus epsilon 0.5 should be",
        ),
        (pair("ties", "weight: 1, density: 2, epsilon: 1e400"), "should be a number"),
        (TWO_SLICES.replace("4]", "3]"), r"slices\[1\].*it ends at 3, .*has 4 layers"),
        (TWO_SLICES.replace("4]", "5]"), r"slices\[1\].*it ends at 5, .*has 4 layers"),
    ],
)
def test_what_is_not_possible_for_a_tensor_is_refused_by_its_name(text, message):
    with pytest.raises(InputError, match=message):
        read(text).recipes(llama())


def test_slices_are_for_models_with_one_stack_of_layers():
    names = ["encoder.block.0.k.weight", "decoder.block.0.k.weight"]
    with pytest.raises(InputError, match=r"not 2 \(decoder.block, encoder.block\)"):
        read(SLERP).recipes(names)
    with pytest.raises(InputError, match=r"not 0 \(none\)"):
        read(SLERP).recipes(["lm_head.weight"])


def test_unknown_parameters_are_refused_wherever_they_are():
    with pytest.raises(InputError, match=r"here.select_topk: There is no parameter"):
        read_parameters({"select_topk": 0.1}, "here")
