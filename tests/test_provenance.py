"""Provenance says which code ran, and nothing about who ran it."""

import getpass
import json
import shutil
import socket
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from mergegrid import provenance as module
from mergegrid.provenance import provenance

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def git(directory, *arguments):
    subprocess.run(["git", *IDENTITY, *arguments], cwd=directory, check=True)


def test_provenance_is_json_and_names_versions():
    facts = provenance()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["versions"]["torch"] == metadata.version("torch")
    assert facts["cpu"]
    assert facts["device"]


def test_provenance_names_no_machine_user_or_path():
    facts = provenance()
    words = json.dumps(facts).replace('"', " ").split()
    assert not {socket.gethostname(), getpass.getuser(), str(Path.home())} & {*words}
    assert str(Path(module.__file__).parent) not in json.dumps(facts)


def test_callers_cannot_change_what_others_see():
    provenance()["versions"].clear()
    assert provenance()["versions"]


@needs_git
def test_the_commit_and_changes_of_the_codes_own_repository_are_told(tmp_path):
    code = tmp_path / "code.py"
    code.write_text("")
    git(tmp_path, "init", "--quiet")
    assert module._git_state(code) == (None, None)  # not tracked: someone else's
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "results").write_text("untracked files are no changes to the code")
    module._git_state.cache_clear()
    commit, dirty = module._git_state(code)
    assert commit is not None
    assert len(commit) == 40
    assert dirty is False
    code.write_text("changed")
    module._git_state.cache_clear()
    assert module._git_state(code) == (commit, True)


@pytest.mark.parametrize(
    ("said", "told"), [("0a1b2c", ("0a1b2c", False)), ("0a1b2c+", ("0a1b2c", True))]
)
def test_where_there_is_no_repository_the_environment_says_the_commit(
    monkeypatch, said, told
):
    monkeypatch.setattr(module, "_git_state", lambda _: (None, None))
    monkeypatch.setenv("MERGEGRID_COMMIT", said)
    facts = provenance()
    assert (facts["git_commit"], facts["git_dirty"]) == told
    monkeypatch.setenv("MERGEGRID_COMMIT", "")  # as an image that was not told has it
    facts = provenance()
    assert (facts["git_commit"], facts["git_dirty"]) == (None, None)


def test_a_repository_knows_better_than_the_environment(monkeypatch):
    monkeypatch.setattr(module, "_git_state", lambda _: ("abc", True))
    monkeypatch.setenv("MERGEGRID_COMMIT", "def")
    assert provenance()["git_commit"] == "abc"


@needs_git
def test_outside_a_repository_there_is_no_commit(tmp_path):
    (tmp_path / "code.py").write_text("")
    assert module._git_state(tmp_path / "code.py") == (None, None)
