"""The architecture, as tests: who may import whom, and what is published."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "mergegrid": {"mergegrid", "fsspec"},
    "storage": {"storage", "mergegrid", "duckdb", "fsspec", "s3fs"},
    "tasks": {"tasks", "storage", "mergegrid", "prefect"},
    "flows": {"flows", "tasks", "dashboards", "storage", "mergegrid", "prefect"},
    "dashboards": {"dashboards", "storage", "mergegrid", "duckdb"},
}
GUARDED = set[str]().union(*MAY_IMPORT.values())


def imported_packages(file):
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_follow_the_architecture(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        forbidden = (imported_packages(file) & GUARDED) - MAY_IMPORT[package]
        assert not forbidden, f"{file.relative_to(ROOT)} imports {sorted(forbidden)}"


def test_the_library_does_not_print():
    for file in (ROOT / "mergegrid").rglob("*.py"):
        if file.name != "cli.py":
            assert "print(" not in file.read_text(), file


def test_the_wheel_holds_the_library_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mergegrid"}


@pytest.mark.parametrize("folder", ["docker", "configs", "dashboards", "tests"])
def test_folders_that_would_shadow_packages_are_none(folder):
    assert not (ROOT / folder / "__init__.py").exists()
