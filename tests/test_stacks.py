"""Small layers of one shape are merged together, each as if it were alone."""

import pytest
import torch

import mergegrid
from mergegrid import pieces, stacks
from mergegrid.cohort import Cohort
from mergegrid.engine import read_recipe
from mergegrid.methods import METHODS
from mergegrid.methods.needs import Need
from mergegrid.sources import InMemory

EXPERTS = ("a", "b", "c")
LAYERS = {f"layers.{i}.{part}": shape for i in range(5) for part, shape in (
    ("in.weight", (6, 10)), ("out.weight", (10, 6)), ("up.weight", (6, 10)),
)} | {"head.weight": (40, 10), "embed.weight": (300, 10)}  # fmt: skip
TAKERS = sorted(name for name, method in METHODS.items() if method.takes_stacks)
RECIPES = [
    "regmean",
    {"method": "regmean", "options": {"off_diagonal": 1.0, "ridge": 0.1}},
    {"method": "mats", "options": {"iterations": 7}},
    {"method": "mats", "options": {"covariance": "kfac", "iterations": 7}},
    {"method": "mats", "options": {"covariance": "diagonal", "iterations": 7}},
]
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=str)


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model(seed):
    return {
        name: normal(*s, seed=seed + i) for i, (name, s) in enumerate(LAYERS.items())
    }


PRETRAINED = model(0)
MODELS = {name: model(100 * i) for i, name in enumerate(EXPERTS, 1)}
for other in EXPERTS:  # a layer that nobody changed
    MODELS[other]["layers.3.up.weight"] = PRETRAINED["layers.3.up.weight"]


def square(width, seed):
    rows = normal(30, width, seed=seed)
    return rows.mT @ rows


def measured(expert, seed):
    linear = [name for name in LAYERS if name != "embed.weight"]
    return {
        Need.GRAM: {n: square(LAYERS[n][1], seed + i) for i, n in enumerate(linear)},
        Need.GRADIENT: {
            n: square(LAYERS[n][0], seed - i) for i, n in enumerate(linear)
        },
        Need.FISHER: {name: MODELS[expert][name] ** 2 for name in linear},
    }


MEASURED = {name: measured(name, 10 * i + 1) for i, name in enumerate(EXPERTS, 500)}
STATISTICS = {
    need: {name: MEASURED[name][need] for name in EXPERTS} for need in MEASURED["a"]
}


def only(parameters, name):
    return {name: parameters[name]}


@every_recipe
def test_in_a_stack_a_layer_is_merged_as_it_is_alone(recipe):
    merged = mergegrid.merge(MODELS, recipe, PRETRAINED, STATISTICS)
    needs = METHODS[read_recipe(recipe).method].needs_of(read_recipe(recipe).options)
    for name in LAYERS.keys() - {"embed.weight"}:
        alone = mergegrid.merge(
            {expert: only(MODELS[expert], name) for expert in EXPERTS},
            recipe,
            only(PRETRAINED, name),
            {
                need: {e: only(STATISTICS[need][e], name) for e in EXPERTS}
                for need in needs & STATISTICS.keys()
            },
        )
        torch.testing.assert_close(merged[name], alone[name], rtol=1e-5, atol=1e-6)
    untouched = "layers.3.up.weight"
    assert torch.equal(merged[untouched], PRETRAINED[untouched])
    mean = torch.stack([MODELS[e]["embed.weight"] for e in EXPERTS]).mean(dim=0)
    torch.testing.assert_close(merged["embed.weight"], mean)


@pytest.fixture
def seen(monkeypatch):
    """The blocks of every stack that is merged."""
    found = []
    stacked = stacks.stacked

    def noting(argument, blocks, *rest):
        if argument == "experts":
            found.append([block.name for block in blocks])
        return stacked(argument, blocks, *rest)

    monkeypatch.setattr("mergegrid.passes.stacked", noting)
    return found


def test_layers_of_one_shape_are_merged_together_up_to_a_size(seen, monkeypatch):
    mergegrid.merge(MODELS, "regmean", statistics=STATISTICS)
    nine = [n for n in LAYERS if LAYERS[n] == (6, 10) and n != "layers.3.up.weight"]
    five = [name for name in LAYERS if LAYERS[name] == (10, 6)]
    assert [sorted(names) for names in seen] == [sorted(nine), five, ["head.weight"]]
    seen.clear()
    monkeypatch.setattr(stacks, "ENTRIES_IN_CACHE", 4 * 100)  # Grams are 10 x 10
    mergegrid.merge(MODELS, "regmean", statistics=STATISTICS)
    assert [len(names) for names in seen] == [4, 4, 1, 4, 1, 1]
    seen.clear()
    monkeypatch.setattr(stacks, "ENTRIES_IN_CACHE", 1)
    mergegrid.merge(MODELS, "regmean", statistics=STATISTICS)
    assert {len(names) for names in seen} == {1}


def test_small_stacks_are_worked_on_by_one_thread_and_large_layers_by_all(
    monkeypatch,
):
    threads = []
    stacked = stacks.stacked

    def noting(*arguments):
        threads.append(torch.get_num_threads())
        return stacked(*arguments)

    monkeypatch.setattr("mergegrid.passes.stacked", noting)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        mergegrid.merge(MODELS, "regmean", statistics=STATISTICS)
        assert set(threads) == {1}
        threads.clear()
        monkeypatch.setattr(stacks, "ENTRIES_IN_CACHE", 1)
        mergegrid.merge(MODELS, "regmean", statistics=STATISTICS)
        assert set(threads) == {2}
    finally:
        torch.set_num_threads(before)


def test_what_else_is_merged_does_not_show():
    # Kernels may round a large stack differently than a small one.
    wanted = {"method": "mats", "options": {"covariance": "kfac", "iterations": 60}}
    others = ["ties", "iso_c", "regmean", {"method": "mats", "options": {}}]
    subset = ("a", "c")
    recipes = [*others, wanted, wanted]
    subsets = [EXPERTS] * (len(others) + 1) + [subset]
    swept = list(
        mergegrid.sweep(MODELS, recipes, PRETRAINED, STATISTICS, subsets=subsets)
    )
    alike = [made for made in swept if made.recipe == read_recipe(wanted)]
    assert [made.experts for made in alike] == [EXPERTS, subset]
    for made in alike:
        alone = mergegrid.merge(
            {name: MODELS[name] for name in made.experts},
            wanted,
            PRETRAINED,
            {need: {e: of[e] for e in made.experts} for need, of in STATISTICS.items()},
        )
        for name in LAYERS:
            assert torch.equal(made.parameters[name], alone[name]), name


@pytest.mark.parametrize("method", TAKERS)
def test_what_a_method_does_not_cover_is_read_in_pieces(method, monkeypatch):
    monkeypatch.setattr(pieces, "ENTRIES", 1000)
    sources = {name: InMemory(MODELS[name]) for name in EXPERTS}
    cohort = Cohort(
        sources,
        InMemory(PRETRAINED),
        STATISTICS,
        seed=0,
        device=torch.device("cpu"),
    )
    variant = cohort.variant(read_recipe(method))
    found = cohort.pieces({"embed.weight": [variant], "head.weight": [variant]})
    lengths = [(p.span.name, p.span.stop - p.span.start) for p in found]
    assert lengths == [("embed.weight", 1000)] * 3 + [("head.weight", 400)]
