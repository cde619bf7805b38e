"""The papers' experiments, made small: replicas of their data and models, few steps.

`python -m tests.replicas vision8 DIR` writes the saved data sets, the model and
`DIR/vision8.yaml`, which `python -m flows run` takes. Nothing is downloaded.
"""

import sys
from pathlib import Path

import yaml

from mergegrid.documents import read_mapping
from mergegrid.methods import METHODS

EXPERIMENTS = Path(__file__).parent.parent.parent / "configs" / "experiments"
FEW_STEPS = {"steps": 2, "batch_size": 4, "warmup_steps": 0, "evaluate_every": 2}
FEW_EXAMPLES = {"examples": 2}
FEW_UPDATES = {"steps": 2, "batch_size": 2, "evaluate_every": 1, "holdout": 0.0}


def replicas():
    """Give each experiment's name and what makes its replica."""
    from tests.replicas import cross_lingual, domainnet, p3, vision
    from tests.replicas.t5 import FIRST

    return {
        "domainnet": domainnet.make,
        "vision8": vision.make,
        "vision14": vision.make,
        "vision20": vision.make,
        "cross_lingual": cross_lingual.make,
        "nlp7": lambda directory: p3.make(directory, form=FIRST),
        "qa8": p3.make,
        "p3_11": p3.make,
    }


def small(name, options):
    """Read a paper's experiment, with its methods, and less of everything else."""
    written = read_mapping(EXPERIMENTS / f"{name}.yaml")
    written["suite"] |= options
    for kind, settings in written.get("training", {}).items():
        written["training"][kind] = settings | FEW_STEPS
        if kind == "few_shot":
            written["training"][kind] |= FEW_EXAMPLES
    written["statistics"] = {
        "fisher": written.get("statistics", {}).get("fisher", {}) | FEW_EXAMPLES,
        "gram": FEW_EXAMPLES,
    }
    for block in written["grid"]:
        block["methods"] = [fewer_values(choice) for choice in block["methods"]]
        if block["subsets"] != "all":
            ((kind, how),) = block["subsets"].items()
            block["subsets"] = {kind: how | {"sizes": [2]} | fewer_subsets(kind, how)}
    return written


def fewer_values(choice):
    choice = {"name": choice, "options": {}} if isinstance(choice, str) else choice
    options = {
        name: values[-2:] if isinstance(values, list) else values
        for name, values in choice["options"].items()
    }
    learned = METHODS[choice["name"]].learned_options
    few = {name: value for name, value in FEW_UPDATES.items() if name in learned}
    return choice | {"options": options | few}


def fewer_subsets(kind, how):
    match kind:
        case "nested":
            return {"samples": 1}
        case "combinations":
            return {"most": 1}
        case "orders":
            return {"given": how["given"][:1]}


def write(name, directory):
    """Write a replica and its experiment; give the experiment's file."""
    directory = Path(directory)
    written = small(name, replicas()[name](directory))
    file = directory / f"{name}.yaml"
    file.write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
    return file


if __name__ == "__main__":
    import datasets

    datasets.disable_progress_bars()
    if len(sys.argv) != 3 or sys.argv[1] not in replicas():
        sys.exit(f"usage: python -m tests.replicas [{'|'.join(replicas())}] DIR")
    print(write(*sys.argv[1:]))  # noqa: T201 - for whoever calls it
