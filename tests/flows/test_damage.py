"""Artifacts that were truncated, altered or lost."""

import shutil

import pytest

pytestmark = pytest.mark.slow

GRID = [{"methods": ["average", "regmean"]}]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Name the root that the first test fills, for all others to copy."""
    return tmp_path_factory.mktemp("damage") / "root"


@pytest.fixture
def root(finished, run, file, tmp_path):
    """Copy a root at which an experiment has been run."""
    if not finished.exists():
        run(file(grid=GRID), "--root", finished)
    return shutil.copytree(finished, tmp_path / "root")


def payload(root, step):
    return next(
        path
        for path in sorted(root.glob(f"artifacts/{step}-v*/*/*"))
        if path.name != "manifest.json"
    )


def alter(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def lose(path):
    path.unlink()


@pytest.mark.parametrize(
    ("step", "damage"), [("train", alter), ("gram", truncate), ("pretrain", lose)]
)
def test_what_verify_finds_is_set_aside_and_made_again(
    run, ask, file, tables, root, step, damage
):
    found = tables(root)
    damage(payload(root, step))
    checked = ask("verify", "--root", root, status=1)
    assert sum(line.startswith(f"{step}-v") for line in checked.splitlines()) == 1
    assert "1 damaged" in checked
    assert "1 to run" in run(file(grid=GRID), "--root", root)
    assert "0 damaged" in ask("verify", "--root", root)
    assert tables(root) == found


def test_damage_that_a_run_meets_is_one_line_and_costs_one_step(run, ask, file, root):
    alter(payload(root, "train"))
    wider = file(grid=[*GRID, {"methods": ["mlerp"]}])
    text = run(wider, "--root", root)
    (line,) = [line for line in text.splitlines() if "It is computed again" in line]
    assert "train-v" in line
    assert "Traceback" not in text
    assert "0 to run; 13 cells, 13 reused" in ask("plan", wider, "--root", root)
    assert "0 damaged" in ask("verify", "--root", root)
