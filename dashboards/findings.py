"""What an experiment says, in sentences that its numbers bear out."""

from collections.abc import Mapping

from dashboards.figures import correlation
from dashboards.frame import Row, Rows
from dashboards.palette import title
from dashboards.text import duration, quantity

_REFERENCES = {
    "pretrained": "pretrained model",
    "multitask": "multitask model",
    "individual": "individual experts",
}


_SIGNIFICANT = 0.05


def findings(answers: Mapping[str, Rows]) -> list[str]:
    """Sum the answers up.

    Args:
        answers: question to its rows.

    Returns:
        Sentences; those that the rows are too few for are left out.
    """
    board = answers["leaderboard"]
    merged = [row for row in board if row["kind"] == "merged"]
    if not merged:
        return []
    references = {row["method"]: row for row in board if row["kind"] == "reference"}
    found = [_best(merged, references, "held_in", "held-in tasks")]
    if any(row["generalization"] is not None for row in merged):
        generalizing = [row for row in merged if row["generalization"] is not None]
        found.append(
            _best(generalizing, references, "generalization", "generalization tasks")
        )
    found += _relation(answers["held_in_vs_generalization"])
    found += _growth(answers["scaling"])
    found += _frugal(answers["costs"], answers["paired"])
    found += _spent(answers["spent"])
    return found


def _best(merged: Rows, references: Mapping[str, Row], role: str, where: str) -> str:
    best = max(merged, key=lambda row: row[role])
    text = (
        f"Best on {where}: {_name(best)} with {100 * best[role]:.1f} ± "
        f"{100 * best[f'{role}_se']:.1f}%"
    )
    gains: list[str] = []
    for name, row in references.items():
        if row[role] is not None and (name != "individual" or role == "held_in"):
            gain = 100 * (best[role] - row[role])
            side = "above" if gain > 0 else "below"
            gains.append(f"{abs(gain):.1f} {side} the {_REFERENCES.get(name, name)}")
    return f"{text}; in points, {', '.join(gains)}." if gains else f"{text}."


def _relation(rows: Rows) -> list[str]:
    merged = [row for row in rows if row["kind"] == "merged"]
    text = correlation(
        merged[0]["pearson_r"], merged[0]["pearson_p"], merged[0]["methods"]
    )
    if not text:
        return []
    front = [title(row["method"]) for row in merged if row["on_front"]]
    if merged[0]["pearson_p"] < _SIGNIFICANT:
        rises = "better" if merged[0]["pearson_r"] > 0 else "worse"
        tendency = f"Methods that do better on held-in tasks tend to generalize {rises}"
    else:
        tendency = "So few methods do not show whether those that do better on "
        tendency += "held-in tasks generalize better"
    return [f"{tendency}: {text}. No other method beats {_listed(front)} in both."]


def _growth(rows: Rows) -> list[str]:
    merged = [row for row in rows if row["kind"] == "merged"]
    sizes = sorted({row["size"] for row in merged})
    if len(sizes) < 2:
        return []
    everywhere = [
        method
        for method in {row["method"] for row in merged}
        if len({row["size"] for row in merged if row["method"] == method}) == len(sizes)
    ]
    ends = [
        [row for row in merged if row["size"] == size and row["method"] in everywhere]
        for size in (sizes[0], sizes[-1])
    ]
    if not everywhere or any(row["generalization"] is None for e in ends for row in e):
        return []
    changes: list[str] = []
    for role, name in (("held_in", "held-in"), ("generalization", "generalization")):
        few, many = (sum(row[role] for row in end) / len(end) for end in ends)
        verb = "falls" if many < few else "rises"
        changes.append(
            f"{name} accuracy {verb} from {100 * few:.1f} to {100 * many:.1f}%"
        )
    return [
        f"From {sizes[0]} to {sizes[-1]} experts, {' and '.join(changes)} (mean of "
        f"the {len(everywhere)} methods merged at every size)."
    ]


def _frugal(costs: Rows, paired: Rows) -> list[str]:
    flops = {row["method"]: row["total_flops"] for row in costs if row["total_flops"]}
    behind = [
        row for row in paired if row["role"] == "held_in" and row["method"] in flops
    ]
    if not behind or behind[0]["best"] not in flops:
        return []
    best = behind[0]["best"]
    equals = [
        row["method"]
        for row in behind
        if row["difference"] + 2 * (row["standard_error"] or 0) >= 0
    ]
    cheapest = min(equals, key=lambda method: flops[method], default=best)
    if flops[cheapest] >= flops[best]:
        return [
            f"On held-in tasks, {title(best)} is ahead of everything cheaper by more "
            "than two standard errors of the paired difference, for "
            f"{quantity(flops[best], 'FLOPs')} of statistics and merge."
        ]
    return [
        f"On held-in tasks, {title(cheapest)} cannot be told from {title(best)} "
        "(within two standard errors of the paired difference), for "
        f"{quantity(flops[cheapest], 'FLOPs')} of statistics and merge instead of "
        f"{quantity(flops[best], 'FLOPs')}."
    ]


def _spent(rows: Rows) -> list[str]:
    total = sum(row["seconds"] for row in rows)
    if not total:
        return []
    largest = rows[0]
    return [
        f"All steps together took {duration(total)} of work, "
        f"{100 * largest['seconds'] / total:.0f}% of it to {_verb(largest['stage'])}."
    ]


def _verb(stage: str) -> str:
    return {
        "data": "make the data",
        "train": "train experts",
        "pretrain": "pretrain",
        "multitask": "train the multitask model",
        "learn": "learn coefficients",
        "few_shot": "train few-shot models",
        "merge": "merge",
        "evaluate": "evaluate",
    }.get(stage, f"measure {stage}")


def _name(row: Row) -> str:
    options = f" ({row['options']})" if row["options"] else ""
    return title(row["method"]) + options


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
