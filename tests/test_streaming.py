"""Merging from files to files is merging in memory, bit for bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mergegrid
from mergegrid import pieces, reading
from mergegrid.checkpoints import find_checkpoint
from mergegrid.cohort import Cohort
from mergegrid.engine import read_recipe
from mergegrid.errors import InputError, LayoutError, NonFiniteError, StorageError
from mergegrid.layout import untie
from mergegrid.methods import METHODS
from mergegrid.methods.needs import Need
from mergegrid.places import Place
from mergegrid.safetensors_files import SafetensorsSource, read_header
from mergegrid.safetensors_output import SafetensorsSink
from mergegrid.sources import TensorInfo
from mergegrid.streaming import output_infos, stream

EXPERTS = ("cars", "flowers", "pets")
MATRICES = ("embed.weight", "layers.0.fc.weight", "layers.1.fc.weight")
PARAMETERS = (*MATRICES, "layers.0.fc.bias", "layers.1.fc.bias")


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model(seed, around=None, distance=0.1):
    """A tied embedding, batch normalization, a buffer, and more than one block."""
    made = {
        "embed.weight": normal(40, 60, seed=seed),
        "layers.0.fc.weight": normal(12, 60, seed=seed + 1),
        "layers.0.fc.bias": normal(12, seed=seed + 2),
        "layers.1.fc.weight": normal(12, 60, seed=seed + 3),
        "layers.1.fc.bias": normal(12, seed=seed + 4),
    }
    if around is not None:
        made = {name: around[name] + distance * made[name] for name in made}
    made["head.weight"] = made["embed.weight"]
    return made | {
        "norm.running_mean": normal(12, seed=seed + 5),
        "norm.num_batches_tracked": torch.tensor(seed),
        "position_ids": torch.arange(7),
    }


PRETRAINED = model(0)
MODELS = {name: model(100 * i, PRETRAINED) for i, name in enumerate(EXPERTS, 1)}


def measure(expert, seed):
    inputs = {name: normal(9, 60, seed=seed + i) for i, name in enumerate(MATRICES)}
    rows = {
        name: normal(9, len(expert[name]), seed=seed + 7 + i)
        for i, name in enumerate(MATRICES)
    }
    return {
        Need.FISHER: {name: expert[name] ** 2 for name in PARAMETERS},
        Need.GRAM: {name: x.mT @ x for name, x in inputs.items()},
        Need.GRADIENT: {name: x.mT @ x for name, x in rows.items()},
    }


MEASURED = {name: measure(MODELS[name], 10 * i) for i, name in enumerate(EXPERTS)}
STATISTICS = {
    need: {name: MEASURED[name][need] for name in EXPERTS}
    for need in (Need.FISHER, Need.GRAM, Need.GRADIENT)
}
STATISTICS[Need.COEFFICIENTS] = {
    "any": {name: normal(len(EXPERTS), seed=i) for i, name in enumerate(PARAMETERS)}
}
STATISTICS[Need.SIGNS] = {"any": {name: PRETRAINED[name].sign() for name in PARAMETERS}}


def separate(parameters):
    # A file holds a tied tensor under each of its names.
    return {name: tensor.clone() for name, tensor in parameters.items()}


def write_one_file(directory, parameters):
    save_file(separate(parameters), directory / "model.safetensors")


def write_shards(directory, parameters):
    names = sorted(parameters)
    half = len(names) // 2
    parts = {"a.safetensors": names[:half], "b.safetensors": names[half:]}
    write_parts(directory, parameters, parts)


def write_a_file_each(directory, parameters):
    parts = {f"{number}.safetensors": [n] for number, n in enumerate(parameters)}
    write_parts(directory, parameters, parts)


def write_parts(directory, parameters, parts):
    whole = separate(parameters)
    for file, names in parts.items():
        save_file({name: whole[name] for name in names}, directory / file)
    index = {name: file for file, names in parts.items() for name in names}
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": index})
    )


FORMS = {
    "one file": write_one_file,
    "shards": write_shards,
    "a file each": write_a_file_each,
}


def stored(directory, parameters, write=write_one_file):
    directory.mkdir(parents=True)
    write(directory, parameters)
    return find_checkpoint(str(directory)).open()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Every model and statistic, in every form."""
    root = tmp_path_factory.mktemp("models")
    found = {}
    for form, write in FORMS.items():
        found[form] = {
            name: stored(root / form / name, parameters, write)
            for name, parameters in {"": PRETRAINED, **MODELS}.items()
        }
    found["statistics"] = {
        need: {
            owner: stored(root / need / owner, tensors)
            for owner, tensors in given.items()
        }
        for need, given in STATISTICS.items()
    }
    return found


def streamed(
    tmp_path, experts, pretrained, recipe, statistics=None, *, tasks=(None,), **options
):
    """Merge files to files, and read the result."""
    dtype = options.pop("dtype", None)
    most_bytes = options.pop("most_bytes", 10**9)
    settings = {"seed": 0, "device": torch.device("cpu")} | options
    cohort = Cohort(experts, pretrained, statistics or {}, **settings)
    infos = output_infos(cohort.layout, dtype)
    directories = {task: tmp_path / f"out-{task}" for task in tasks}
    sinks = {}
    for task, directory in directories.items():
        directory.mkdir()
        sinks[task] = SafetensorsSink(directory, infos, most_bytes)
    recipe = recipe if callable(recipe) else read_recipe(recipe)
    stream(cohort, recipe, sinks, dtype=dtype)
    for sink in sinks.values():
        with sink:
            pass
    return {task: read(directory) for task, directory in directories.items()}


def read(directory):
    merged = {}
    for file in directory.glob("*.safetensors"):
        merged |= load_file(file)
    return merged


def assert_equal(found, expected):
    torch.testing.assert_close(found, dict(expected), rtol=0, atol=0, equal_nan=True)


RECIPES = [
    *METHODS,
    {"method": "average", "options": {"weights": (1.0, 2.0, 3.0)}},
    {"method": "task_arithmetic", "options": {"depth_scale": 0.5}},
    {"method": "task_arithmetic", "options": {"match_norm": True}},
    {"method": "tall_masks", "options": {"match_norm": True, "depth_scale": 0.5}},
    {"method": "ties", "options": {"scope": "tensor"}},
    {"method": "ties", "options": {"selection": "random"}},
    {"method": "ties", "options": {"selection": "threshold"}},
    {"method": "ties", "options": {"election": "given"}},
    {"method": "ties", "options": {"zero_sum": "tensor_majority"}},
    {"method": "dare", "options": {"rescale": "norm"}},
    {"method": "mlerp", "options": {"scope": "tensor"}},
    {"method": "mats", "options": {"covariance": "kfac"}},
    {"method": "mats", "options": {"covariance": "diagonal"}},
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_streaming_is_merging_in_memory_whatever_the_files(
    files, tmp_path, monkeypatch, recipe, form
):
    checked = read_recipe(recipe)
    method = METHODS[checked.method]
    names = EXPERTS[: method.experts[1]]
    experts = {name: MODELS[name] for name in names}
    statistics = {
        need: {owner: given[owner] for owner in given if owner in (*names, "any")}
        for need, given in STATISTICS.items()
        if need in method.all_needs
    }
    tasks = names if method.per_task else (None,)
    expected = {
        task: mergegrid.merge(experts, checked, PRETRAINED, statistics, task=task)
        for task in tasks
    }
    # Several pieces of a tensor, and several blocks of a piece.
    monkeypatch.setattr(pieces, "ENTRIES", 2048)
    monkeypatch.setattr(reading, "ENTRIES_IN_CACHE", 1024)
    found = streamed(
        tmp_path,
        {name: files[form][name] for name in names},
        files[form][""],
        checked,
        {
            need: {owner: files["statistics"][need][owner] for owner in given}
            for need, given in statistics.items()
        },
        tasks=tasks,
        most_bytes=5000 if form == "shards" else 10**9,
    )
    for task in tasks:
        assert_equal(found[task], expected[task])


def test_a_recipe_for_each_parameter_merges_each_as_a_model_of_its_own(files, tmp_path):
    by_name = {
        "embed.weight": read_recipe("average"),
        "layers.0.fc.weight": read_recipe(
            {"method": "ties", "options": {"scope": "tensor"}}
        ),
    }
    usual = read_recipe({"method": "task_arithmetic", "options": {"scale": 0.3}})
    of_form = files["one file"]
    experts = {name: of_form[name] for name in EXPERTS}
    found = streamed(
        tmp_path, experts, of_form[""], lambda name: by_name.get(name, usual)
    )
    for name in PARAMETERS:
        recipe = by_name.get(name, usual)
        alone = mergegrid.merge(
            {expert: {name: MODELS[expert][name]} for expert in EXPERTS},
            recipe,
            {name: PRETRAINED[name]},
        )
        assert torch.equal(found[None][name], alone[name]), name


def test_a_recipe_for_each_parameter_cannot_be_about_the_model(files, tmp_path):
    of_form = files["one file"]
    experts = {name: of_form[name] for name in EXPERTS}
    ties = read_recipe("ties")
    with pytest.raises(InputError, match="its scope must be tensor"):
        streamed(tmp_path, experts, of_form[""], lambda _: ties)


def test_progress_ends_where_it_should(files, tmp_path):
    of_form = files["one file"]
    cohort = Cohort(
        {name: of_form[name] for name in EXPERTS},
        of_form[""],
        {},
        seed=0,
        device=torch.device("cpu"),
    )
    said = []
    with SafetensorsSink(tmp_path, output_infos(cohort.layout)) as sink:
        recipe = read_recipe("average")
        stream(cohort, recipe, {None: sink}, progress=lambda *pair: said.append(pair))
    numbers = sum(PRETRAINED[name].numel() for name in PARAMETERS)
    assert said[-1] == (numbers, numbers)
    assert said == sorted(said)


# Tied tensors, buffers and types


def test_tensors_that_only_look_tied_are_not():
    starts_alike = normal(8, 60, seed=1)
    other = starts_alike.clone()
    other[-1, -1] += 1
    parameters = {"a": starts_alike, "b": other, "c": starts_alike.clone()}
    untied = {name: {**parameters, "c": starts_alike + 1} for name in "xy"}
    tied = dict.fromkeys("xy", parameters)
    for models, first in ((untied, "c"), (tied, "a")):
        merged = mergegrid.merge(models, "average")
        assert set(merged) == {"a", "b", "c"}
        shared = [n for n in "abc" if merged[n].data_ptr() == merged["c"].data_ptr()]
        assert shared[0] == first


def test_looking_for_tied_tensors_reads_little(tmp_path):
    parameters = {f"w{i}": normal(20, 50, seed=i) for i in range(30)}
    source = stored(tmp_path / "many", parameters)
    asked, read_range = [], source.read

    def counted(name, start, stop):
        asked.append(stop - start)
        return read_range(name, start, stop)

    source.read = counted
    assert untie({"model": source}) == {name: name for name in sorted(parameters)}
    assert len(asked) == 30
    assert max(asked) <= 64


def test_buffers_are_averaged_copied_and_counted(files, tmp_path):
    of_form = files["one file"]
    experts = {name: of_form[name] for name in EXPERTS}
    (merged,) = streamed(tmp_path, experts, of_form[""], "task_arithmetic").values()
    means = torch.stack([MODELS[name]["norm.running_mean"] for name in EXPERTS])
    assert torch.equal(merged["norm.running_mean"], means.double().mean(dim=0).float())
    assert torch.equal(merged["position_ids"], torch.arange(7))
    assert merged["norm.num_batches_tracked"] == 0


def test_buffers_that_differ_are_all_named(tmp_path):
    models = {
        name: stored(
            tmp_path / name, {**PRETRAINED, "position_ids": torch.arange(7) + i}
        )
        for i, name in enumerate("abc")
    }
    with pytest.raises(LayoutError, match=r"'b'.*'position_ids'.*'c'.*'position_ids'"):
        streamed(tmp_path, models, None, "average")


@pytest.mark.parametrize("own", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("wanted", [None, torch.float32, torch.bfloat16])
def test_types_may_differ_and_are_cast_once(tmp_path, own, wanted):
    experts = {
        name: {
            key: tensor.to(own) if "fc" in key else tensor
            for key, tensor in MODELS[name].items()
        }
        for name in EXPERTS
    }
    (found,) = streamed(
        tmp_path,
        {name: stored(tmp_path / name, experts[name]) for name in EXPERTS},
        stored(tmp_path / "pretrained", PRETRAINED),
        "ties",
        dtype=wanted,
    ).values()
    expected = mergegrid.merge(experts, "ties", PRETRAINED)
    for name, tensor in expected.items():
        cast = (
            tensor.to(wanted or tensor.dtype) if tensor.is_floating_point() else tensor
        )
        assert found[name].dtype == cast.dtype
        assert torch.equal(found[name], cast), name


def test_without_a_pretrained_model_types_are_the_first_experts(tmp_path):
    experts = {
        "a": {"w": normal(3, 4, seed=1).bfloat16()},
        "b": {"w": normal(3, 4, seed=2)},
    }
    (found,) = streamed(
        tmp_path,
        {name: stored(tmp_path / name, experts[name]) for name in experts},
        None,
        "average",
    ).values()
    assert_equal(found, mergegrid.merge(experts, "average"))
    assert found["w"].dtype == torch.bfloat16


@pytest.mark.parametrize("rows", [(7, 5, 6), (5, 7, 6), (6, 7, 5)])
@pytest.mark.parametrize("method", ["ties", "average", "dare", "tsv_m"])
def test_vocabularies_that_differ_are_merged_where_all_have_rows(
    tmp_path, rows, method
):
    def cut(seed, count):
        return {"embed": normal(7, 4, seed=seed)[:count], "fc": normal(3, 4, seed=seed)}

    pretrained, *experts = (cut(seed, count) for seed, count in enumerate(rows))
    named = dict(zip("ab", experts, strict=True))
    (found,) = streamed(
        tmp_path,
        {name: stored(tmp_path / name, named[name]) for name in named},
        stored(tmp_path / "pretrained", pretrained),
        method,
        vocabulary="intersect",
    ).values()
    common = min(rows)
    expected = mergegrid.merge(
        {n: {"embed": e["embed"][:common], "fc": e["fc"]} for n, e in named.items()},
        method,
        {"embed": pretrained["embed"][:common], "fc": pretrained["fc"]},
    )
    assert torch.equal(found["embed"][:common], expected["embed"])
    assert torch.equal(found["embed"][common:], pretrained["embed"][common:])
    assert torch.equal(found["fc"], expected["fc"])


def test_empty_and_scalar_tensors_stay(tmp_path):
    parameters = {"empty": torch.zeros(0, 4), "scalar": torch.tensor(2.0)}
    experts = {name: stored(tmp_path / name, parameters) for name in "ab"}
    pretrained = stored(tmp_path / "pretrained", parameters)
    (found,) = streamed(tmp_path, experts, pretrained, "ties").values()
    assert_equal(found, parameters)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("whose", ["pets", "pretrained"])
def test_what_is_not_finite_is_named(files, tmp_path, value, whose):
    source = {"pretrained": PRETRAINED, **MODELS}[whose]
    spoilt = {**source, "layers.1.fc.bias": source["layers.1.fc.bias"].clone()}
    spoilt["layers.1.fc.bias"][3] = value
    of_form = files["one file"]
    models = {"pretrained": of_form[""], **{name: of_form[name] for name in EXPERTS}}
    models[whose] = stored(tmp_path / "spoilt", spoilt)
    pretrained = models.pop("pretrained")
    with pytest.raises(NonFiniteError, match=rf"{whose}.*'layers\.1\.fc\.bias'"):
        streamed(tmp_path, models, pretrained, "task_arithmetic")


def test_what_float16_cannot_hold_is_named(files, tmp_path):
    of_form = files["one file"]
    experts = {name: of_form[name] for name in EXPERTS}
    recipe = {"method": "task_arithmetic", "options": {"scale": 1e6}}
    with pytest.raises(NonFiniteError, match="float16 cannot hold"):
        streamed(tmp_path, experts, of_form[""], recipe, dtype=torch.float16)


class Broken:
    """A disk that is full after some writes."""

    def __init__(self, writes):
        self.left = writes

    def write(self, *_arguments):
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize("writes", [0, 1, 3, 8])
def test_a_disk_that_fills_up_stops_the_merge(files, writes):
    of_form = files["one file"]
    experts = {name: of_form[name] for name in EXPERTS}
    device = torch.device("cpu")
    cohort = Cohort(experts, of_form[""], {}, seed=0, device=device)
    with pytest.raises(OSError, match="No space left"):
        stream(cohort, read_recipe("average"), {None: Broken(writes)})


# Files


def test_shards_are_as_large_as_allowed_and_listed_as_hugging_face_does(tmp_path):
    infos = {f"t{i}": TensorInfo((10,), torch.float32) for i in range(5)}
    with SafetensorsSink(tmp_path, infos, most_bytes=90) as sink:
        for number, name in enumerate(infos):
            sink.write(name, 0, torch.full((10,), float(number)))
    files = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == files
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 200}
    assert index["weight_map"] == {f"t{i}": files[i // 2] for i in range(5)}
    assert [float(read(tmp_path)[f"t{i}"][0]) for i in range(5)] == [0, 1, 2, 3, 4]


def test_a_file_written_in_any_order_is_what_the_library_writes(tmp_path):
    tensors = {
        "half": normal(5, seed=1).half(),
        "whole": normal(2, 3, seed=2),
        "count": torch.tensor([1, 2, 3]),
        "flag": torch.tensor([True, False, True]),
        "none": torch.zeros(0),
    }
    infos = {n: TensorInfo(tuple(t.shape), t.dtype) for n, t in tensors.items()}
    with SafetensorsSink(tmp_path, infos) as sink:
        for name, tensor in reversed(tensors.items()):
            flat = tensor.reshape(-1)
            for start in reversed(range(len(flat))):
                sink.write(name, start, flat[start : start + 1])
    assert_equal(load_file(tmp_path / "model.safetensors"), tensors)
    for info, start in read_header(
        Place.of(str(tmp_path / "model.safetensors"))
    ).values():
        assert start % info.dtype.itemsize == 0  # so that it can be mapped


def test_a_file_that_is_not_written_to_its_end_is_a_bug(tmp_path):
    infos = {"a": TensorInfo((10,), torch.float32)}
    with (
        pytest.raises(AssertionError, match="'a'"),
        SafetensorsSink(tmp_path, infos) as sink,
    ):
        sink.write("a", 0, torch.zeros(9))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no safetensors file"),
        (b"\xff" * 20, "is no safetensors file"),
        (b"\x02" + b"\0" * 7 + b"[]", "no header"),
        (b"\x02" + b"\0" * 7 + b"{", "is no safetensors file"),
        (b"\x0c" + b"\0" * 7 + b'{"a": {"b":1', "no header"),
    ],
)
def test_what_is_no_safetensors_file_is_named(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        SafetensorsSource([Place.of(str(tmp_path / "x.safetensors"))])
    assert "x.safetensors" in str(caught.value)


def test_headers_that_lie_are_not_believed(tmp_path):
    save_file({"a": torch.zeros(4)}, tmp_path / "x.safetensors")
    content = (tmp_path / "x.safetensors").read_bytes()
    for wrong in (b'"shape":[5]', b'"dtype":"F64"', b'"shape":["4"]', b'"dtype":"XX"'):
        right = b'"shape":[4]' if b"shape" in wrong else b'"dtype":"F32"'
        text = content[8:].partition(b"}}")[0] + b"}}"
        changed = text.replace(right, wrong)
        head = len(changed).to_bytes(8, "little")
        (tmp_path / "y.safetensors").write_bytes(head + changed + b"\0" * 16)
        with pytest.raises(InputError, match="no header"):
            SafetensorsSource([Place.of(str(tmp_path / "y.safetensors"))])


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path):
    source = stored(tmp_path / "a", {"w": torch.zeros(1000)})
    file = tmp_path / "a" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(StorageError, match="is cut off"):
        source.read("w", 0, 1000)


# Memory

CHILD = """
import re, sys
import mergegrid, torch
from mergegrid.checkpoints import find_checkpoint
from mergegrid.cohort import Cohort
from mergegrid.engine import read_recipe
from mergegrid.safetensors_output import SafetensorsSink
from mergegrid.streaming import output_infos, stream
from pathlib import Path

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

torch.set_num_threads(1)
root, method, out = sys.argv[1:]
# What is loaded when it is first used is no part of it.
small = {name: {"w": torch.randn(50, 50)} for name in "pabc"}
mergegrid.merge(small, method, small["p"])
sources = {name: find_checkpoint(f"{root}/{name}").open() for name in "pabc"}
pretrained = sources.pop("p")
before = peak()
cohort = Cohort(sources, pretrained, {}, seed=0, device=torch.device("cpu"))
with SafetensorsSink(Path(out), output_infos(cohort.layout)) as sink:
    stream(cohort, read_recipe(method), {None: sink})
print((peak() - before) * 1024)
"""

TENSOR = 16_000_000
"""Bytes of each of a model's tensors, of which there are twelve."""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    root = tmp_path_factory.mktemp("large")
    for seed, name in enumerate("pabc"):
        parameters = {f"w{i}": normal(2000, 2000, seed=9 * seed + i) for i in range(12)}
        (root / name).mkdir()
        save_file(parameters, root / name / "model.safetensors")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("method", ["average", "task_arithmetic", "ties", "dare"])
def test_memory_grows_with_the_largest_tensor_not_with_the_model(
    large, tmp_path, method
):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, large, method, tmp_path],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    experts = 3
    assert int(done.stdout) < 1.3 * (experts + 2) * TENSOR + 32_000_000
