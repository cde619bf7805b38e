"""A new family and a new suite go through the whole pipeline as they are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

TOY = Path(__file__).parent / "toy.py"
REPOSITORY = TOY.parent.parent.parent

EXPERIMENT = {
    "name": "toy",
    "suite": {"name": "points"},
    "training": {
        "pretrain": {"steps": 2, "learning_rate": 0.01},
        "expert": {"steps": 100, "learning_rate": 0.1, "patience": 100},
    },
    "grid": [
        {
            "methods": [
                "average",
                "fisher",
                "slerp",
                {"name": "regmean", "options": {"off_diagonal": 0.9}},
                {"name": "ties", "options": {"density": [0.5, 1.0], "scale": 1.0}},
                {"name": "mats", "options": {"iterations": 5, "initial_scale": 0.5}},
            ]
        }
    ],
}


@pytest.fixture(scope="module")
def root(server, tmp_path_factory):
    home = tmp_path_factory.mktemp("toy")
    file = home / "experiment.yaml"
    file.write_text(yaml.safe_dump(EXPERIMENT))
    done = subprocess.run(
        [sys.executable, TOY, "run", file, "--root", home / "root"],
        cwd=REPOSITORY,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "PREFECT_API_URL": server,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return home / "root"


def rows(ask, root, query):
    return ask("sql", query, "--format", "csv", "--root", root).splitlines()[1:]


def test_every_merge_of_a_new_family_is_scored_on_every_task(ask, root):
    query = """
        SELECT method, count(DISTINCT cell), count(DISTINCT task)
        FROM cells JOIN scores USING (cell)
        WHERE kind = 'merged' AND split = 'test' GROUP BY method ORDER BY method
    """
    assert rows(ask, root, query) == [
        "average,1,3",
        "fisher,1,3",
        "mats,1,3",
        "regmean,1,3",
        "slerp,1,3",
        "ties,2,3",
    ]


def test_experts_of_a_new_family_learn_their_tasks_and_merges_what_is_between(
    ask, root
):
    query = """
        SELECT method, task, value FROM cells JOIN scores USING (cell)
        WHERE method IN ('individual', 'average') AND split = 'test'
            AND (method = 'average' OR task = experts[1])
    """
    scores = [row.split(",") for row in rows(ask, root, query)]
    own = [float(v) for method, task, v in scores if method == "individual"]
    between = [float(v) for m, t, v in scores if (m, t) == ("average", "between")]
    assert len(own) == 2
    assert min(own) > 0.9
    assert between[0] > 0.9


def test_the_family_has_about_twenty_lines():
    tree = ast.parse(TOY.read_text())
    found = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    lines = [
        line
        for name in ("Line", "Toy")
        for line in ast.unparse(found[name]).splitlines()
        if line.strip()
    ]
    assert len(lines) <= 25
