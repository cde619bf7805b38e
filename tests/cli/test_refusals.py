"""What the command line refuses: one line, status 2, nothing half-written."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "tise"}, "no merge method 'tise'. Did you mean 'ties'"),
        ({"options": {"desnity": 0.1}}, "no option of ties 'desnity'"),
        ({"options": {"density": 7}}, "ties: density = 7 is not possible"),
        ({"expert": {}}, "'expert'. Did you mean 'experts'"),
        ({"experts": {}}, "experts: dictionary should have at least 1 item"),
        ({"experts": None}, "experts is missing"),
        ({"experts": {"a": "a", "b": "elsewhere"}}, "no model at"),
        ({"experts": {"a": "pretrained/pytorch_model.bin"}}, "other formats are not"),
        ({"pretrained": None}, "ties needs the pretrained parameters"),
        ({"method": "regmean"}, "regmean needs the gram statistic of expert 'a'"),
        ({"method": "slerp", "experts": {"a": "a"}}, "exactly 2 experts, not 1"),
        ({"statistics": {"fischer": {}}}, "no key 'fischer'. Did you mean 'fisher'"),
    ],
)
def test_a_fault_in_a_recipe_is_one_line_and_leaves_nothing(
    models, changes, message, write_recipe, failure
):
    before = sorted(models.iterdir())
    recipe = write_recipe(**changes)
    assert message.lower() in failure("merge", recipe, models / "out").lower()
    assert sorted(models.iterdir()) == sorted([*before, recipe])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "holds a list instead of a mapping"),
        ("", "holds nothing instead of a mapping"),
        ("method: [", "is not YAML"),
        ("method: ties\nmethod: dare\n", "a key is written twice"),
        (b"\xff\xfe\x00", "it is not text"),
    ],
)
def test_a_recipe_that_is_no_mapping_is_one_line(tmp_path, text, message, failure):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in failure("merge", recipe, tmp_path / "out")


def test_a_recipe_that_is_not_there_is_named(tmp_path, failure):
    missing = tmp_path / "nothing.yaml"
    message = failure("merge", missing, tmp_path / "out")
    assert f"Cannot read {missing}: No such file" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_shard_size": "5 apples"}, "'5 apples' is no size"),
        ({"dtype": "bfloat16"}, "dtype: input should be 'float32'"),
        ({"output_dtype": "int8"}, "output_dtype: input should be 'float32'"),
        ({"device": "tpu"}, "device: input should be 'cpu' or 'cuda'"),
        ({"vocabulary": "pad"}, "vocabulary: input should be 'refuse' or 'intersect'"),
        ({"task": "c"}, "no expert 'c'"),
        ({"task": "a"}, "ties yields one model for all tasks"),
        ({"statistics": {"fisher": {"x": "f"}}}, "no expert 'x'"),
    ],
)
def test_settings_that_are_not_possible_are_one_line(
    models, changes, message, write_recipe, failure
):
    recipe = write_recipe(**changes)
    assert message.lower() in failure("merge", recipe, models / "out").lower()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_one_line(models, write_recipe, failure):
    recipe = write_recipe(device="cuda")
    assert "no CUDA device" in failure("merge", recipe, models / "out")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"fc.bias": torch.ones(4)}, "expert 'b' has 'fc.bias' with shape (4,)"),
        ({"fc.bias": torch.ones(3).int()}, "expert 'b' has 'fc.bias' in int32"),
        ({"extra": torch.ones(1)}, "expert 'b' has a parameter 'extra'"),
        (
            {"fc.bias": torch.tensor([0, torch.nan, 0])},
            "expert 'b' has NaN or infinity",
        ),
    ],
)
def test_experts_that_do_not_fit_are_one_line(
    models, tensors, message, write_recipe, failure, spoil
):
    spoil("b", **tensors)
    assert message in failure("merge", write_recipe(), models / "out")
    assert not (models / "out").exists()


def test_a_truncated_model_is_one_line(models, write_recipe, failure):
    file = models / "b" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    message = failure("merge", write_recipe(), models / "out")
    assert f"b/{file.name} is cut off: 'fc.weight' is not all there" in message


def test_an_index_that_lists_a_missing_shard_is_one_line(models, write_recipe, failure):
    index = models / "b" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"fc.bias": "gone.safetensors"}}))
    message = failure("merge", write_recipe(), models / "out")
    assert "lists gone.safetensors, which is not there" in message
    index.write_text("[]")
    message = failure("merge", write_recipe(), models / "out")
    assert "is no index of a sharded model" in message


def test_a_configuration_that_is_damaged_is_one_line(models, write_recipe, failure):
    (models / "a" / "config.json").write_text("{")
    message = failure("merge", write_recipe(), models / "out")
    assert "a/config.json is no configuration of a model" in message


@pytest.mark.parametrize("name", ["x/y", "..", ".x", " x"])
def test_names_that_are_no_directories_are_refused_where_they_would_be(
    models, name, write_recipe, run, failure
):
    experts = {name: "a", "b": "b"}
    recipe = write_recipe(method="emr", experts=experts)
    message = failure("merge", recipe, models / "out")
    assert f"{name!r} will not do for the directory" in message
    recipe = write_recipe(method="emr", experts=experts, task="b")
    assert run("merge", recipe, models / "out") == 0


def test_a_merge_needs_a_place(write_recipe, failure):
    assert "Say where to" in failure("merge", write_recipe())


def test_nothing_is_overwritten(models, capsys, write_recipe, run, failure):
    recipe = write_recipe()
    assert run("merge", recipe, models / "out") == 0
    capsys.readouterr()
    before = (models / "out" / "merge.json").stat().st_mtime_ns
    assert "exists already" in failure("merge", recipe, models / "out")
    assert (models / "out" / "merge.json").stat().st_mtime_ns == before


def test_force_replaces_a_directory(models, write_recipe, run):
    out = models / "out"
    run("merge", write_recipe(), out)
    (out / "old").write_text("old")
    recipe = write_recipe(method="average")
    assert run("merge", recipe, out, "--force") == 0
    assert not (out / "old").exists()
    assert json.loads((out / "merge.json").read_text())["recipe"]["method"] == "average"


def test_force_leaves_what_is_there_if_the_merge_fails(
    models, capsys, write_recipe, run, failure, spoil
):
    out = models / "out"
    run("merge", write_recipe(), out)
    before = {path: path.read_bytes() for path in sorted(out.iterdir())}
    spoil("b", **{"fc.bias": torch.tensor([0, torch.nan, 0])})
    capsys.readouterr()
    failure("merge", write_recipe(), out, "--force")
    assert {path: path.read_bytes() for path in sorted(out.iterdir())} == before
    assert not [path for path in models.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("out", ["a", "."])
def test_force_never_takes_what_is_merged(models, out, write_recipe, failure):
    recipe = write_recipe()
    before = sorted(models.rglob("*"))
    message = failure("merge", recipe, models / out, "--force")
    assert "cannot be replaced" in message
    assert sorted(models.rglob("*")) == before


def test_a_full_disk_is_one_line_and_leaves_nothing(models, write_recipe):
    recipe = write_recipe()
    before = sorted(models.iterdir())
    script = "import sys; from mergegrid.cli import main; sys.exit(main(sys.argv[1:]))"

    def no_room():
        # A limit on the size of files fails a write as a full disk does, for real.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = subprocess.run(
        [sys.executable, "-c", script, "merge", recipe, models / "out"],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=no_room,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: Cannot write to ")
    assert done.stderr.count("\n") == 1
    assert sorted(models.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_interrupted_leaves_nothing(models, number, write_recipe):
    # It stops in the middle of the merge, where it waits for ever.
    script = """
import sys, time
from mergegrid import merging
from mergegrid.cli import main
def stream(*arguments, **options):
    print("now", flush=True)
    time.sleep(60)
merging.stream = stream
sys.exit(main(sys.argv[1:]))
"""
    recipe = write_recipe()
    before = sorted(models.iterdir())
    with subprocess.Popen(
        [sys.executable, "-c", script, "merge", recipe, models / "out"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout.readline() == "now\n"
        assert len(sorted(models.iterdir())) == len(before) + 1
        child.send_signal(number)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert said == "interrupted; nothing was written\n"
    assert sorted(models.iterdir()) == before
