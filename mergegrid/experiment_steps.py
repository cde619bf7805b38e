"""An experiment turned into steps: what has to be made, and from what."""

from mergegrid.canonical import JSON
from mergegrid.experiment import Experiment
from mergegrid.grid import Cell, Choosers, expand
from mergegrid.prerequisites import Prerequisites
from mergegrid.steps import Scored, Step, Steps
from mergegrid.suites.suite import Suite, Task
from mergegrid.training import TrainingSettings


def build_steps(experiment: Experiment) -> Steps:
    """Turn an experiment into its steps.

    Args:
        experiment: the experiment.

    Returns:
        Its steps, parents first.
    """
    suite = experiment.open_suite()
    tasks = suite.tasks()
    held_in = [task for task in tasks if task.held_in]
    seed = experiment.seed
    described = {
        "name": suite.name,
        "version": suite.version,
        "options": suite.options(),
    }
    data = Step("data", {"suite": described}, (), suite.name)
    pretrained = _pretrained(experiment, suite, data)

    def trained(name: str, on: list[Task], settings: TrainingSettings | None) -> Step:
        assert settings is not None, "the experiment was checked"
        return Step(
            name,
            {
                "pretrained": pretrained.key,
                "tasks": [f"{task.name}@{task.version}" for task in on],
                "training": settings.model_dump(mode="json"),
                "seed": seed,
            },
            (pretrained.key, data.key),
            on[0].name if len(on) == 1 else f"{len(on)} tasks",
        )

    def expert(task: Task) -> Step:
        published = suite.expert(task.name)
        if published is None:
            return trained("train", [task], experiment.training.expert)
        inputs = {"model": published.identity(), "pretrained": pretrained.key}
        return Step("import", inputs, (pretrained.key,), task.name)

    experts = {task.name: expert(task) for task in held_in}
    together: list[Step] = []
    if experiment.training.multitask is not None:
        together = [trained("multitask", held_in, experiment.training.multitask)]
    cells = expand(experiment)
    measured = Prerequisites(experiment, tasks, data, pretrained, experts, together)
    scored: dict[str, Scored] = {}

    def evaluated(name: str, cell: Cell, model: Step) -> None:
        step = Step(
            "score",
            {"model": model.key, "data": data.key, "as": name, "on": cell.experts},
            (model.key, pretrained.key, data.key),
            " ".join((name, *cell.experts[:1])) if name == "individual" else name,
        )
        scored[step.key] = Scored(step, cell, models={name: model.key})

    evaluated("pretrained", _reference("pretrained", ()), pretrained)
    for task, step in experts.items():
        evaluated("individual", _reference("individual", (task,)), step)
    for step in together:
        evaluated("multitask", _reference("multitask", tuple(experts)), step)

    choosers = Choosers(cells)
    keys: dict[int, str] = {}
    # Cells that wait for others' scores come after those they wait for.
    for cell in sorted(cells, key=lambda cell: bool(cell.waits)):
        best_of = {
            option: tuple(keys[id(other)] for other in choosers.of(cell, option))
            for option in cell.waits
        }
        entry = measured.scored(cell, best_of)
        keys[id(cell)] = entry.step.key
        scored[entry.step.key] = entry
    for name, step in measured.few_shot(tuple(experts)).items():
        evaluated(name, _reference(name, tuple(experts)), step)
    profiled = {entry.step.key: entry for entry in measured.profiled()}

    artifacts = (
        data,
        pretrained,
        *experts.values(),
        *together,
        *measured.steps.values(),
        *(entry.step for entry in profiled.values()),
    )
    return Steps(
        experiment,
        tasks,
        data,
        pretrained,
        experts,
        {step.key: step for step in artifacts},
        scored,
        profiled,
    )


def _pretrained(experiment: Experiment, suite: Suite, data: Step) -> Step:
    """Train the model that experts start from, or take a published one."""
    what: dict[str, JSON] = {
        "family": suite.family,
        "architecture": suite.architecture(),
    }
    published = suite.pretrained()
    if published is not None:
        inputs = what | {"model": published.identity()}
        return Step("import", inputs, (), "pretrained model")
    settings = experiment.training.pretrain
    assert settings is not None, "the experiment was checked"
    inputs = what | {
        "data": data.key,
        "training": settings.model_dump(mode="json"),
        "seed": experiment.seed,
    }
    return Step("pretrain", inputs, (data.key,), suite.name)


def _reference(name: str, experts: tuple[str, ...]) -> Cell:
    return Cell(name, 1, {}, (), experts, sample=0, seed=0)
